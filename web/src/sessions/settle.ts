// Nothing moves under the hand: while the pointer or the focus is in a list, its rows keep their places.

/** The order to show: `wanted`, or while held the order that stood, without what is gone, new ones at the end. */
export function settle<T>(shown: readonly T[], wanted: readonly T[], held: boolean): readonly T[] {
  if (!held) return wanted;
  const left = new Set(wanted);
  const stays = shown.filter((id) => left.delete(id));
  return [...stays, ...left];
}
