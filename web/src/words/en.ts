// Every string that a person reads, in English.

export const words = {
  sessions: 'Sessions',
} as const;
