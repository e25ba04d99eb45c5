// What is being written to a session: it stays with the session, on this device.

import type { DocumentId } from '../engine/types.gen';
import { remember, remembered } from '../ui/device';

export class Draft {
  #name: string;
  #text: string;

  constructor(session: DocumentId) {
    this.#name = `draft.${session}`;
    this.#text = $state(remembered(this.#name) ?? '');
  }

  get text(): string {
    return this.#text;
  }

  set text(text: string) {
    this.#text = text;
    remember(this.#name, text);
  }
}
