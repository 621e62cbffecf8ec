// Which servers may be asked for votes. The configuration lists them as `host` (any port) or
// `host:port`; a request's base_url is compared with that list by host name and port, with the
// scheme's default port filled in, before anything is sent.
// Left out on purpose: where a name resolves to. A name on the list is trusted with the address that
// the system's resolver gives for it, so list addresses, or names whose DNS you trust.

import { InvalidRequest } from "../errors.ts";

export interface HostEntry {
  /** As URLs spell it: lower case, IPv6 in brackets. */
  hostname: string;
  /** null stands for any port. */
  port: number | null;
}

/** Reads `host`, `host:port`, `::1`, `[::1]` or `[::1]:8000`; null when `text` is none of them. */
export function hostEntry(text: string): HostEntry | null {
  const isBareIpv6 = !text.startsWith("[") && text.split(":").length > 2;
  const match = /^(\[[^\]]+\]|[^:/?#@\\\s]+)(?::(\d{1,5}))?$/.exec(isBareIpv6 ? `[${text}]` : text);
  const hostname = match && URL.parse(`http://${match[1]}`)?.hostname;
  if (!hostname) return null;
  const port = match[2] === undefined ? null : Number(match[2]);
  return port === null || (port >= 1 && port <= 65535) ? { hostname, port } : null;
}

/** The port that an address names or its scheme stands for. */
export function portOf(url: URL): number {
  return Number(url.port) || (url.protocol === "https:" ? 443 : 80);
}

/** Whether an entry covers the address. */
export function covers(entry: string, url: URL): boolean {
  const found = hostEntry(entry);
  return found !== null && found.hostname === url.hostname &&
    (found.port === null || found.port === portOf(url));
}

/**
 * A teacher's base_url, once it is known to be an http(s) address on the list.
 * @throws {InvalidRequest} naming `param`; a password in the address is not repeated.
 */
export function teacherAddress(baseUrl: string, allowedHosts: string[], param: string): URL {
  const url = URL.parse(baseUrl);
  const fail = (what: string, code = "url_not_allowed") =>
    new InvalidRequest(
      `Cannot ask a teacher at ${url?.host || "this base_url"}: ${what}.`,
      param,
      code,
    );
  if (!url) throw fail("base_url is not an address, wanted e.g. http://127.0.0.1:8000/v1");
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw fail(`base_url begins with ${url.protocol}, wanted http: or https:`);
  }
  if (url.username !== "" || url.password !== "") {
    throw fail(
      "base_url carries a user or a password. Name the variable of the key in teacher_keys in the " +
        "config file instead",
    );
  }
  if (url.protocol === "http:" && portOf(url) === 443) {
    throw fail("port 443 speaks https, and a key would go there in the clear. Wanted https:");
  }
  if (!allowedHosts.some((entry) => covers(entry, url))) {
    throw fail(
      `port ${portOf(url)} of this host is not among the allowed hosts ` +
        `(${allowedHosts.join(", ") || "none"}). Add it to teacher_hosts in the config file`,
    );
  }
  return url;
}
