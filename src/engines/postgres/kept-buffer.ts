import { Socket } from 'node:net';
import { KIB } from '../../base/sizes.ts';

/** Two of the largest messages in which the server sends its log (128 KiB). */
const BUFFER_BYTES = 256 * KIB;

/**
 * The one buffer that a connection is read into. Left to itself, Node makes a new one of 64 KiB for each read: a gigabyte of
 * buffers for a gigabyte of log, and the collector takes more time for them than the log does.
 */
export class KeptBuffer {
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  /**
   * Whether listeners of `data` are handed the buffer itself, which is theirs during the call alone. Else they get copies,
   * as the driver keeps what it has not parsed yet.
   */
  isLent = false;

  /** A socket that is not connected yet. It must not be read in any other way than by `data`. */
  open(): Socket {
    const onRead = (bytes: number): boolean => {
      const received = this.#buffer.subarray(0, bytes);
      socket.emit('data', this.isLent ? received : Buffer.from(received));
      // Go on reading.
      return true;
    };
    const socket = new Socket({ onread: { buffer: this.#buffer, callback: onRead } });
    return socket;
  }
}
