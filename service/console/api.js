// How the page speaks with the ranker. A key, where one is asked for, lives as long as the tab.
const KEY = "steadyrank-api-key";
const TIMEOUT_MS = 8000;

/** The ranker answered, but not with what was asked; the message is its problem document's detail. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? problem?.title ?? `The ranker answered ${status}.`);
    this.status = status;
  }
}

export const keep = (key) => sessionStorage.setItem(KEY, key);

/** The JSON of the answer. Throws `Refused`, or whatever `fetch` throws when nobody answers. */
export async function request(path, method = "GET") {
  const key = sessionStorage.getItem(KEY);
  const headers = key === null ? {} : { "X-API-Key": key };
  const answer = await fetch(path, { method, headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}
