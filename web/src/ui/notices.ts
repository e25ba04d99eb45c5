// Which notices stand on the screen: the last three, and none twice. Pure.

export interface Toast {
  readonly id: number;
  readonly text: string;
  readonly action: { readonly label: string; readonly run: () => void } | null;
}

/** `shown` is the one that stands for the news: an older one of the same words, unless it has a way back of its own. */
export function add(list: readonly Toast[], toast: Toast): { list: readonly Toast[]; shown: Toast } {
  const same = toast.action ? undefined : list.find(({ text, action }) => text === toast.text && !action);
  return same ? { list, shown: same } : { list: [...list.slice(-2), toast], shown: toast };
}
