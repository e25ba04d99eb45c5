// Whether something is open above the page: then Escape and single letters are its own.

export function layerOpen(): boolean {
  return document.querySelector('[role="dialog"][data-state="open"], [role="menu"], [popover]:popover-open') !== null;
}
