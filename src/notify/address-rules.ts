import { BlockList, isIPv4, isIPv6 } from 'node:net';

/** What an address belongs to, as far as sending to it goes. */
export type AddressClass = 'public' | 'private' | 'loopback' | 'metadata';

type Range = readonly [address: string, prefix: number];

/** Where clouds answer a machine about itself, credentials included: AWS, GCP and Azure; Azure's wire server; Oracle; Alibaba. */
const metadataRanges: readonly Range[] = [
  ['169.254.0.0', 16],
  ['168.63.129.16', 32],
  ['192.0.0.192', 32],
  ['100.100.100.200', 32],
  ['fe80::', 10],
  ['fd00:ec2::', 32],
  ['fd20:ce::254', 128],
];

const loopbackRanges: readonly Range[] = [
  ['127.0.0.0', 8],
  ['::1', 128],
];

/** @source IANA IPv4 and IPv6 Special-Purpose Address Registries: everything that is not globally reachable */
const privateRanges: readonly Range[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
];

/** The only part of IPv6 that is given out for use in the Internet. */
const globalIpv6: readonly Range[] = [['2000::', 3]];

const lists = {
  metadata: listOf(metadataRanges),
  loopback: listOf(loopbackRanges),
  private: listOf(privateRanges),
  globalIpv6: listOf(globalIpv6),
};

function listOf(ranges: readonly Range[]): BlockList {
  const list = new BlockList();
  for (const [address, prefix] of ranges) list.addSubnet(address, prefix, isIPv4(address) ? 'ipv4' : 'ipv6');
  return list;
}

/** The class of an IPv4 or IPv6 address; what is neither is private, as nothing should be sent there. */
export function classifyAddress(address: string): AddressClass {
  const plain = address.split('%')[0] ?? '';
  const inner = isIPv6(plain) ? embeddedIpv4(plain) : plain;
  if (inner !== null && isIPv4(inner)) return classOf(inner, 'ipv4');
  if (!isIPv6(plain)) return 'private';
  const found = classOf(plain, 'ipv6');
  return found === 'public' && !lists.globalIpv6.check(plain, 'ipv6') ? 'private' : found;
}

function classOf(address: string, family: 'ipv4' | 'ipv6'): AddressClass {
  for (const name of ['metadata', 'loopback', 'private'] as const)
    if (lists[name].check(address, family)) return name;
  return 'public';
}

/**
 * The IPv4 address that an IPv6 address stands for: mapped (::ffff:0:0/96), compatible (::/96) or behind NAT64
 * (64:ff9b::/96). A packet to it goes to that IPv4 address in the end.
 */
function embeddedIpv4(address: string): string | null {
  // The URL parser writes every form of an IPv6 address in one way: hexadecimal groups, the longest run of zeros as ::.
  const text = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const match = /^(?:::ffff:|64:ff9b::|::)(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,4})$/.exec(text);
  if (match === null || text === '::1') return null;
  const high = Number.parseInt(match[1] ?? '0', 16);
  const low = Number.parseInt(match[2] ?? '0', 16);
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}
