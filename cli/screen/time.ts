// Times as people read them.

/** Docker's words for a duration: "5 seconds", "About a minute", "3 hours". */
export function humanDuration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 1) return "Less than a second";
  if (seconds === 1) return "1 second";
  if (seconds < 60) return `${seconds} seconds`;
  const minutes = Math.floor(seconds / 60);
  if (minutes === 1) return "About a minute";
  if (minutes < 60) return `${minutes} minutes`;
  const hours = Math.round(minutes / 60);
  if (hours === 1) return "About an hour";
  if (hours < 48) return `${hours} hours`;
  const days = Math.floor(hours / 24);
  if (days < 14) return `${days} days`;
  if (days < 60) return `${Math.floor(days / 7)} weeks`;
  if (days < 730) return `${Math.floor(days / 30)} months`;
  return `${Math.floor(days / 365)} years`;
}

/** "5 seconds ago"; a clock that is ahead of ours makes it "Less than a second ago", never a negative age. */
export function ago(atMs: number, nowMs: number): string {
  return `${humanDuration(Math.max(0, nowMs - atMs))} ago`;
}

/** RFC 3339 in UTC; empty for "never", which is 0. */
export function iso(atMs: number): string {
  return atMs === 0 ? "" : new Date(atMs).toISOString();
}
