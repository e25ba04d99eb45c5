// What Enter does in the composer. While an input method composes it is the method's; on touch keyboards it breaks the line.

export interface EnterPress {
  readonly key: string;
  readonly shift: boolean;
  readonly alt: boolean;
  readonly ctrl: boolean;
  readonly composing: boolean;
}

export function sends(press: EnterPress, touch: boolean): boolean {
  if (press.key !== 'Enter' || press.composing || press.shift || press.alt) return false;
  return press.ctrl || !touch;
}
