#!/usr/bin/env node

// src/codec/verify/effect-shim.ts
var Result = {
  succeed: (success) => ({ _tag: "Success", success }),
  fail: (failure) => ({ _tag: "Failure", failure }),
  isSuccess: (result) => result._tag === "Success",
  isFailure: (result) => result._tag === "Failure"
};
var TaggedError = () => (tag) => class extends Error {
  _tag = tag;
  constructor(fields) {
    super();
    Object.assign(this, fields);
  }
};
var Schema = { TaggedError, String: void 0 };

// src/codec/verify/main.ts
import { readFileSync, statSync } from "node:fs";

// src/codec/bytes.ts
var toHex = (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
var fromHex = (text2) => new Uint8Array(Buffer.from(text2, "hex"));
var utf8 = (text2) => new Uint8Array(Buffer.from(text2, "utf8"));
var equalBytes = (a, b) => a.byteLength === b.byteLength && Buffer.compare(a, b) === 0;
var shortKey = (hex) => hex.slice(0, 8);

// src/codec/clock.ts
var clockAheadMsMax = 24 * 36e5;
var stampMsMax = 2 ** 48 - 1;
var stampCountMax = 65535;
var isStamp = (ms, count) => Number.isSafeInteger(ms) && ms >= 0 && ms <= stampMsMax && Number.isSafeInteger(count) && count >= 0 && count <= stampCountMax;
var stampText = (stamp) => {
  const date = new Date(Math.min(stamp.ms, 864e13));
  return date.toISOString();
};

// node_modules/cborg/lib/is.js
var objectTypeNames = [
  "Object",
  // for Object.create(null) and other non-plain objects
  "RegExp",
  "Date",
  "Error",
  "Map",
  "Set",
  "WeakMap",
  "WeakSet",
  "ArrayBuffer",
  "SharedArrayBuffer",
  "DataView",
  "Promise",
  "URL",
  "HTMLElement",
  "Int8Array",
  "Uint8ClampedArray",
  "Int16Array",
  "Uint16Array",
  "Int32Array",
  "Uint32Array",
  "Float32Array",
  "Float64Array",
  "BigInt64Array",
  "BigUint64Array",
  "Tagged"
];
function is(value) {
  if (value === null) {
    return "null";
  }
  if (value === void 0) {
    return "undefined";
  }
  if (value === true || value === false) {
    return "boolean";
  }
  const typeOf = typeof value;
  if (typeOf === "string" || typeOf === "number" || typeOf === "bigint" || typeOf === "symbol") {
    return typeOf;
  }
  if (typeOf === "function") {
    return "Function";
  }
  if (Array.isArray(value)) {
    return "Array";
  }
  if (value instanceof Uint8Array) {
    return "Uint8Array";
  }
  if (value.constructor === Object) {
    return "Object";
  }
  const objectType = getObjectType(value);
  if (objectType) {
    return objectType;
  }
  return "Object";
}
function getObjectType(value) {
  const objectTypeName = Object.prototype.toString.call(value).slice(8, -1);
  if (objectTypeNames.includes(objectTypeName)) {
    return objectTypeName;
  }
  return void 0;
}

// node_modules/cborg/lib/token.js
var Type = class {
  /**
   * @param {number} major
   * @param {string} name
   * @param {boolean} terminal
   */
  constructor(major, name, terminal) {
    this.major = major;
    this.majorEncoded = major << 5;
    this.name = name;
    this.terminal = terminal;
  }
  toString() {
    return `Type[${this.major}].${this.name}`;
  }
  /**
   * @param {Type} typ
   * @returns {number}
   */
  compare(typ) {
    return this.major < typ.major ? -1 : this.major > typ.major ? 1 : 0;
  }
  /**
   * Check equality between two Type instances. Safe to use across different
   * copies of the Type class (e.g., when bundlers duplicate the module).
   * (major, name) uniquely identifies a Type; terminal is implied by these.
   * @param {Type} a
   * @param {Type} b
   * @returns {boolean}
   */
  static equals(a, b) {
    return a === b || a.major === b.major && a.name === b.name;
  }
};
Type.uint = new Type(0, "uint", true);
Type.negint = new Type(1, "negint", true);
Type.bytes = new Type(2, "bytes", true);
Type.string = new Type(3, "string", true);
Type.array = new Type(4, "array", false);
Type.map = new Type(5, "map", false);
Type.tag = new Type(6, "tag", false);
Type.float = new Type(7, "float", true);
Type.false = new Type(7, "false", true);
Type.true = new Type(7, "true", true);
Type.null = new Type(7, "null", true);
Type.undefined = new Type(7, "undefined", true);
Type.break = new Type(7, "break", true);
var Token = class {
  /**
   * @param {Type} type
   * @param {any} [value]
   * @param {number} [encodedLength]
   */
  constructor(type, value, encodedLength) {
    this.type = type;
    this.value = value;
    this.encodedLength = encodedLength;
    this.encodedBytes = void 0;
    this.byteValue = void 0;
  }
  toString() {
    return `Token[${this.type}].${this.value}`;
  }
};

// node_modules/cborg/lib/byte-utils.js
var useBuffer = globalThis.process && // @ts-ignore
!globalThis.process.browser && // @ts-ignore
globalThis.Buffer && // @ts-ignore
typeof globalThis.Buffer.isBuffer === "function";
var textEncoder = new TextEncoder();
function isBuffer(buf) {
  return useBuffer && globalThis.Buffer.isBuffer(buf);
}
function asU8A(buf) {
  if (!(buf instanceof Uint8Array)) {
    return Uint8Array.from(buf);
  }
  return isBuffer(buf) ? new Uint8Array(buf.buffer, buf.byteOffset, buf.byteLength) : buf;
}
var FROM_STRING_THRESHOLD_BUFFER = 24;
var FROM_STRING_THRESHOLD_TEXTENCODER = 200;
var fromString = useBuffer ? (
  // eslint-disable-line operator-linebreak
  /**
   * @param {string} string
   */
  (string) => {
    return string.length >= FROM_STRING_THRESHOLD_BUFFER ? (
      // eslint-disable-line operator-linebreak
      // @ts-ignore
      globalThis.Buffer.from(string)
    ) : utf8ToBytes(string);
  }
) : (
  // eslint-disable-line operator-linebreak
  /**
   * @param {string} string
   */
  (string) => {
    return string.length >= FROM_STRING_THRESHOLD_TEXTENCODER ? textEncoder.encode(string) : utf8ToBytes(string);
  }
);
var fromArray = (arr) => {
  return Uint8Array.from(arr);
};
var slice = useBuffer ? (
  // eslint-disable-line operator-linebreak
  /**
   * @param {Uint8Array} bytes
   * @param {number} start
   * @param {number} end
   */
  // Buffer.slice() returns a view, not a copy, so we need special handling
  (bytes, start, end) => {
    if (isBuffer(bytes)) {
      return new Uint8Array(bytes.subarray(start, end));
    }
    return bytes.slice(start, end);
  }
) : (
  // eslint-disable-line operator-linebreak
  /**
   * @param {Uint8Array} bytes
   * @param {number} start
   * @param {number} end
   */
  (bytes, start, end) => {
    return bytes.slice(start, end);
  }
);
var concat = useBuffer ? (
  // eslint-disable-line operator-linebreak
  /**
   * @param {ByteView[]} chunks
   * @param {number} length
   * @returns {AllocatedByteView}
   */
  (chunks, length) => {
    chunks = chunks.map((c) => c instanceof Uint8Array ? c : (
      // eslint-disable-line operator-linebreak
      // @ts-ignore
      globalThis.Buffer.from(c)
    ));
    return (
      /** @type {AllocatedByteView} */
      asU8A(globalThis.Buffer.concat(chunks, length))
    );
  }
) : (
  // eslint-disable-line operator-linebreak
  /**
   * @param {ByteView[]} chunks
   * @param {number} length
   * @returns {AllocatedByteView}
   */
  (chunks, length) => {
    const out = new Uint8Array(length);
    let off = 0;
    for (let b of chunks) {
      if (off + b.length > out.length) {
        b = b.subarray(0, out.length - off);
      }
      out.set(b, off);
      off += b.length;
    }
    return out;
  }
);
var alloc = useBuffer ? (
  // eslint-disable-line operator-linebreak
  /**
   * @param {number} size
   * @returns {AllocatedByteView}
   */
  (size) => {
    return globalThis.Buffer.allocUnsafe(size);
  }
) : (
  // eslint-disable-line operator-linebreak
  /**
   * @param {number} size
   * @returns {AllocatedByteView}
   */
  (size) => {
    return new Uint8Array(size);
  }
);
function compare(b1, b2) {
  if (isBuffer(b1) && isBuffer(b2)) {
    return b1.compare(b2);
  }
  for (let i = 0; i < b1.length; i++) {
    if (b1[i] === b2[i]) {
      continue;
    }
    return b1[i] < b2[i] ? -1 : 1;
  }
  return 0;
}
function utf8ToBytes(str) {
  const out = [];
  let p = 0;
  for (let i = 0; i < str.length; i++) {
    let c = str.charCodeAt(i);
    if (c < 128) {
      out[p++] = c;
    } else if (c < 2048) {
      out[p++] = c >> 6 | 192;
      out[p++] = c & 63 | 128;
    } else if ((c & 64512) === 55296 && i + 1 < str.length && (str.charCodeAt(i + 1) & 64512) === 56320) {
      c = 65536 + ((c & 1023) << 10) + (str.charCodeAt(++i) & 1023);
      out[p++] = c >> 18 | 240;
      out[p++] = c >> 12 & 63 | 128;
      out[p++] = c >> 6 & 63 | 128;
      out[p++] = c & 63 | 128;
    } else {
      if (c >= 55296 && c <= 57343) {
        c = 65533;
      }
      out[p++] = c >> 12 | 224;
      out[p++] = c >> 6 & 63 | 128;
      out[p++] = c & 63 | 128;
    }
  }
  return out;
}

// node_modules/cborg/lib/bl.js
var defaultChunkSize = 256;
var Bl = class {
  /**
   * @param {number} [chunkSize]
   */
  constructor(chunkSize = defaultChunkSize) {
    this.chunkSize = chunkSize;
    this.cursor = 0;
    this.maxCursor = -1;
    this.chunks = [];
    this._initReuseChunk = null;
  }
  reset() {
    this.cursor = 0;
    this.maxCursor = -1;
    if (this.chunks.length) {
      this.chunks = [];
    }
    if (this._initReuseChunk !== null) {
      this.chunks.push(this._initReuseChunk);
      this.maxCursor = this._initReuseChunk.length - 1;
    }
  }
  /**
   * @param {number} byte
   */
  pushByte(byte) {
    let topChunk = this.chunks[this.chunks.length - 1];
    if (this.cursor > this.maxCursor) {
      topChunk = alloc(this.chunkSize);
      this.chunks.push(topChunk);
      this.maxCursor += topChunk.length;
      if (this._initReuseChunk === null) {
        this._initReuseChunk = topChunk;
      }
    }
    const chunkPos = topChunk.length - (this.maxCursor - this.cursor) - 1;
    topChunk[chunkPos] = byte;
    this.cursor++;
  }
  /**
   * @param {ByteView|number[]} bytes
   */
  push(bytes) {
    let topChunk = this.chunks[this.chunks.length - 1];
    const newMax = this.cursor + bytes.length;
    if (newMax <= this.maxCursor + 1) {
      const chunkPos = topChunk.length - (this.maxCursor - this.cursor) - 1;
      topChunk.set(bytes, chunkPos);
    } else {
      if (topChunk) {
        const chunkPos = topChunk.length - (this.maxCursor - this.cursor) - 1;
        if (chunkPos < topChunk.length) {
          this.chunks[this.chunks.length - 1] = topChunk.subarray(0, chunkPos);
          this.maxCursor = this.cursor - 1;
        }
      }
      if (bytes.length < 64 && bytes.length < this.chunkSize) {
        topChunk = alloc(this.chunkSize);
        this.chunks.push(topChunk);
        this.maxCursor += topChunk.length;
        if (this._initReuseChunk === null) {
          this._initReuseChunk = topChunk;
        }
        topChunk.set(bytes, 0);
      } else {
        this.chunks.push(bytes);
        this.maxCursor += bytes.length;
      }
    }
    this.cursor += bytes.length;
  }
  /**
   * @param {boolean} [reset]
   * @returns {AllocatedByteView}
   */
  toBytes(reset = false) {
    let byts;
    if (this.chunks.length === 1) {
      const chunk = this.chunks[0];
      if (reset && this.cursor > chunk.length / 2) {
        byts = this.cursor === chunk.length ? chunk : chunk.subarray(0, this.cursor);
        this._initReuseChunk = null;
        this.chunks = [];
      } else {
        byts = slice(chunk, 0, this.cursor);
      }
    } else {
      byts = concat(this.chunks, this.cursor);
    }
    if (reset) {
      this.reset();
    }
    return byts;
  }
};
var U8Bl = class {
  /**
   * @param {Uint8Array<T>} dest
   */
  constructor(dest) {
    this.dest = dest;
    this.cursor = 0;
    this.chunks = [dest];
  }
  reset() {
    this.cursor = 0;
  }
  /**
   * @param {number} byte
   */
  pushByte(byte) {
    if (this.cursor >= this.dest.length) {
      throw new Error("write out of bounds, destination buffer is too small");
    }
    this.dest[this.cursor++] = byte;
  }
  /**
   * @param {ByteView|number[]} bytes
   */
  push(bytes) {
    if (this.cursor + bytes.length > this.dest.length) {
      throw new Error("write out of bounds, destination buffer is too small");
    }
    this.dest.set(bytes, this.cursor);
    this.cursor += bytes.length;
  }
  /**
   * @param {boolean} [reset]
   * @returns {Uint8Array<T>}
   */
  toBytes(reset = false) {
    const byts = this.dest.subarray(0, this.cursor);
    if (reset) {
      this.reset();
    }
    return byts;
  }
};

// node_modules/cborg/lib/common.js
var decodeErrPrefix = "CBOR decode error:";
var encodeErrPrefix = "CBOR encode error:";
var uintMinorPrefixBytes = [];
uintMinorPrefixBytes[23] = 1;
uintMinorPrefixBytes[24] = 2;
uintMinorPrefixBytes[25] = 3;
uintMinorPrefixBytes[26] = 5;
uintMinorPrefixBytes[27] = 9;
function assertEnoughData(data, pos, need) {
  if (data.length - pos < need) {
    throw new Error(`${decodeErrPrefix} not enough data for type`);
  }
}

// node_modules/cborg/lib/0uint.js
var uintBoundaries = [24, 256, 65536, 4294967296, BigInt("18446744073709551616")];
function readUint8(data, offset, options) {
  assertEnoughData(data, offset, 1);
  const value = data[offset];
  if (options.strict === true && value < uintBoundaries[0]) {
    throw new Error(`${decodeErrPrefix} integer encoded in more bytes than necessary (strict decode)`);
  }
  return value;
}
function readUint16(data, offset, options) {
  assertEnoughData(data, offset, 2);
  const value = data[offset] << 8 | data[offset + 1];
  if (options.strict === true && value < uintBoundaries[1]) {
    throw new Error(`${decodeErrPrefix} integer encoded in more bytes than necessary (strict decode)`);
  }
  return value;
}
function readUint32(data, offset, options) {
  assertEnoughData(data, offset, 4);
  const value = data[offset] * 16777216 + (data[offset + 1] << 16) + (data[offset + 2] << 8) + data[offset + 3];
  if (options.strict === true && value < uintBoundaries[2]) {
    throw new Error(`${decodeErrPrefix} integer encoded in more bytes than necessary (strict decode)`);
  }
  return value;
}
function readUint64(data, offset, options) {
  assertEnoughData(data, offset, 8);
  const hi = data[offset] * 16777216 + (data[offset + 1] << 16) + (data[offset + 2] << 8) + data[offset + 3];
  const lo = data[offset + 4] * 16777216 + (data[offset + 5] << 16) + (data[offset + 6] << 8) + data[offset + 7];
  const value = (BigInt(hi) << BigInt(32)) + BigInt(lo);
  if (options.strict === true && value < uintBoundaries[3]) {
    throw new Error(`${decodeErrPrefix} integer encoded in more bytes than necessary (strict decode)`);
  }
  if (value <= Number.MAX_SAFE_INTEGER) {
    return Number(value);
  }
  if (options.allowBigInt === true) {
    return value;
  }
  throw new Error(`${decodeErrPrefix} integers outside of the safe integer range are not supported`);
}
function decodeUint8(data, pos, _minor, options) {
  return new Token(Type.uint, readUint8(data, pos + 1, options), 2);
}
function decodeUint16(data, pos, _minor, options) {
  return new Token(Type.uint, readUint16(data, pos + 1, options), 3);
}
function decodeUint32(data, pos, _minor, options) {
  return new Token(Type.uint, readUint32(data, pos + 1, options), 5);
}
function decodeUint64(data, pos, _minor, options) {
  return new Token(Type.uint, readUint64(data, pos + 1, options), 9);
}
function encodeUint(writer, token) {
  return encodeUintValue(writer, 0, token.value);
}
function encodeUintValue(writer, major, uint) {
  if (uint < uintBoundaries[0]) {
    const nuint = Number(uint);
    writer.pushByte(major | nuint);
  } else if (uint < uintBoundaries[1]) {
    const nuint = Number(uint);
    writer.push([major | 24, nuint]);
  } else if (uint < uintBoundaries[2]) {
    const nuint = Number(uint);
    writer.push([major | 25, nuint >>> 8, nuint & 255]);
  } else if (uint < uintBoundaries[3]) {
    const nuint = Number(uint);
    writer.push([major | 26, nuint >>> 24 & 255, nuint >>> 16 & 255, nuint >>> 8 & 255, nuint & 255]);
  } else {
    const buint = BigInt(uint);
    if (buint < uintBoundaries[4]) {
      const set = [major | 27, 0, 0, 0, 0, 0, 0, 0];
      let lo = Number(buint & BigInt(4294967295));
      let hi = Number(buint >> BigInt(32) & BigInt(4294967295));
      set[8] = lo & 255;
      lo = lo >> 8;
      set[7] = lo & 255;
      lo = lo >> 8;
      set[6] = lo & 255;
      lo = lo >> 8;
      set[5] = lo & 255;
      set[4] = hi & 255;
      hi = hi >> 8;
      set[3] = hi & 255;
      hi = hi >> 8;
      set[2] = hi & 255;
      hi = hi >> 8;
      set[1] = hi & 255;
      writer.push(set);
    } else {
      throw new Error(`${decodeErrPrefix} encountered BigInt larger than allowable range`);
    }
  }
}
encodeUint.encodedSize = function encodedSize(token) {
  return encodeUintValue.encodedSize(token.value);
};
encodeUintValue.encodedSize = function encodedSize2(uint) {
  if (uint < uintBoundaries[0]) {
    return 1;
  }
  if (uint < uintBoundaries[1]) {
    return 2;
  }
  if (uint < uintBoundaries[2]) {
    return 3;
  }
  if (uint < uintBoundaries[3]) {
    return 5;
  }
  return 9;
};
encodeUint.compareTokens = function compareTokens(tok1, tok2) {
  return tok1.value < tok2.value ? -1 : tok1.value > tok2.value ? 1 : 0;
};

// node_modules/cborg/lib/1negint.js
function decodeNegint8(data, pos, _minor, options) {
  return new Token(Type.negint, -1 - readUint8(data, pos + 1, options), 2);
}
function decodeNegint16(data, pos, _minor, options) {
  return new Token(Type.negint, -1 - readUint16(data, pos + 1, options), 3);
}
function decodeNegint32(data, pos, _minor, options) {
  return new Token(Type.negint, -1 - readUint32(data, pos + 1, options), 5);
}
var neg1b = BigInt(-1);
var pos1b = BigInt(1);
function decodeNegint64(data, pos, _minor, options) {
  const int = readUint64(data, pos + 1, options);
  if (typeof int !== "bigint") {
    const value = -1 - int;
    if (value >= Number.MIN_SAFE_INTEGER) {
      return new Token(Type.negint, value, 9);
    }
  }
  if (options.allowBigInt !== true) {
    throw new Error(`${decodeErrPrefix} integers outside of the safe integer range are not supported`);
  }
  return new Token(Type.negint, neg1b - BigInt(int), 9);
}
function encodeNegint(writer, token) {
  const negint = token.value;
  const unsigned = typeof negint === "bigint" ? negint * neg1b - pos1b : negint * -1 - 1;
  encodeUintValue(writer, token.type.majorEncoded, unsigned);
}
encodeNegint.encodedSize = function encodedSize3(token) {
  const negint = token.value;
  const unsigned = typeof negint === "bigint" ? negint * neg1b - pos1b : negint * -1 - 1;
  if (unsigned < uintBoundaries[0]) {
    return 1;
  }
  if (unsigned < uintBoundaries[1]) {
    return 2;
  }
  if (unsigned < uintBoundaries[2]) {
    return 3;
  }
  if (unsigned < uintBoundaries[3]) {
    return 5;
  }
  return 9;
};
encodeNegint.compareTokens = function compareTokens2(tok1, tok2) {
  return tok1.value < tok2.value ? 1 : tok1.value > tok2.value ? -1 : 0;
};

// node_modules/cborg/lib/2bytes.js
function toToken(data, pos, prefix, length) {
  assertEnoughData(data, pos, prefix + length);
  const buf = data.slice(pos + prefix, pos + prefix + length);
  return new Token(Type.bytes, buf, prefix + length);
}
function decodeBytesCompact(data, pos, minor, _options) {
  return toToken(data, pos, 1, minor);
}
function decodeBytes8(data, pos, _minor, options) {
  return toToken(data, pos, 2, readUint8(data, pos + 1, options));
}
function decodeBytes16(data, pos, _minor, options) {
  return toToken(data, pos, 3, readUint16(data, pos + 1, options));
}
function decodeBytes32(data, pos, _minor, options) {
  return toToken(data, pos, 5, readUint32(data, pos + 1, options));
}
function decodeBytes64(data, pos, _minor, options) {
  const l = readUint64(data, pos + 1, options);
  if (typeof l === "bigint") {
    throw new Error(`${decodeErrPrefix} 64-bit integer bytes lengths not supported`);
  }
  return toToken(data, pos, 9, l);
}
function tokenBytes(token) {
  if (token.encodedBytes === void 0) {
    token.encodedBytes = Type.equals(token.type, Type.string) ? fromString(token.value) : token.value;
  }
  return token.encodedBytes;
}
function encodeBytes(writer, token) {
  const bytes = tokenBytes(token);
  encodeUintValue(writer, token.type.majorEncoded, bytes.length);
  writer.push(bytes);
}
encodeBytes.encodedSize = function encodedSize4(token) {
  const bytes = tokenBytes(token);
  return encodeUintValue.encodedSize(bytes.length) + bytes.length;
};
encodeBytes.compareTokens = function compareTokens3(tok1, tok2) {
  return compareBytes(tokenBytes(tok1), tokenBytes(tok2));
};
function compareBytes(b1, b2) {
  return b1.length < b2.length ? -1 : b1.length > b2.length ? 1 : compare(b1, b2);
}

// node_modules/cborg/lib/3string.js
var textDecoder = new TextDecoder();
var ASCII_THRESHOLD = 32;
function toStr(bytes, start, end) {
  const len = end - start;
  if (len < ASCII_THRESHOLD) {
    let str = "";
    for (let i = start; i < end; i++) {
      const c = bytes[i];
      if (c & 128) {
        return textDecoder.decode(bytes.subarray(start, end));
      }
      str += String.fromCharCode(c);
    }
    return str;
  }
  return textDecoder.decode(bytes.subarray(start, end));
}
function toToken2(data, pos, prefix, length, options) {
  const totLength = prefix + length;
  assertEnoughData(data, pos, totLength);
  const tok = new Token(Type.string, toStr(data, pos + prefix, pos + totLength), totLength);
  if (options.retainStringBytes === true) {
    tok.byteValue = data.slice(pos + prefix, pos + totLength);
  }
  return tok;
}
function decodeStringCompact(data, pos, minor, options) {
  return toToken2(data, pos, 1, minor, options);
}
function decodeString8(data, pos, _minor, options) {
  return toToken2(data, pos, 2, readUint8(data, pos + 1, options), options);
}
function decodeString16(data, pos, _minor, options) {
  return toToken2(data, pos, 3, readUint16(data, pos + 1, options), options);
}
function decodeString32(data, pos, _minor, options) {
  return toToken2(data, pos, 5, readUint32(data, pos + 1, options), options);
}
function decodeString64(data, pos, _minor, options) {
  const l = readUint64(data, pos + 1, options);
  if (typeof l === "bigint") {
    throw new Error(`${decodeErrPrefix} 64-bit integer string lengths not supported`);
  }
  return toToken2(data, pos, 9, l, options);
}
var encodeString = encodeBytes;

// node_modules/cborg/lib/4array.js
function toToken3(_data, _pos, prefix, length) {
  return new Token(Type.array, length, prefix);
}
function decodeArrayCompact(data, pos, minor, _options) {
  return toToken3(data, pos, 1, minor);
}
function decodeArray8(data, pos, _minor, options) {
  return toToken3(data, pos, 2, readUint8(data, pos + 1, options));
}
function decodeArray16(data, pos, _minor, options) {
  return toToken3(data, pos, 3, readUint16(data, pos + 1, options));
}
function decodeArray32(data, pos, _minor, options) {
  return toToken3(data, pos, 5, readUint32(data, pos + 1, options));
}
function decodeArray64(data, pos, _minor, options) {
  const l = readUint64(data, pos + 1, options);
  if (typeof l === "bigint") {
    throw new Error(`${decodeErrPrefix} 64-bit integer array lengths not supported`);
  }
  return toToken3(data, pos, 9, l);
}
function decodeArrayIndefinite(data, pos, _minor, options) {
  if (options.allowIndefinite === false) {
    throw new Error(`${decodeErrPrefix} indefinite length items not allowed`);
  }
  return toToken3(data, pos, 1, Infinity);
}
function encodeArray(writer, token) {
  encodeUintValue(writer, Type.array.majorEncoded, token.value);
}
encodeArray.compareTokens = encodeUint.compareTokens;
encodeArray.encodedSize = function encodedSize5(token) {
  return encodeUintValue.encodedSize(token.value);
};

// node_modules/cborg/lib/5map.js
function toToken4(_data, _pos, prefix, length) {
  return new Token(Type.map, length, prefix);
}
function decodeMapCompact(data, pos, minor, _options) {
  return toToken4(data, pos, 1, minor);
}
function decodeMap8(data, pos, _minor, options) {
  return toToken4(data, pos, 2, readUint8(data, pos + 1, options));
}
function decodeMap16(data, pos, _minor, options) {
  return toToken4(data, pos, 3, readUint16(data, pos + 1, options));
}
function decodeMap32(data, pos, _minor, options) {
  return toToken4(data, pos, 5, readUint32(data, pos + 1, options));
}
function decodeMap64(data, pos, _minor, options) {
  const l = readUint64(data, pos + 1, options);
  if (typeof l === "bigint") {
    throw new Error(`${decodeErrPrefix} 64-bit integer map lengths not supported`);
  }
  return toToken4(data, pos, 9, l);
}
function decodeMapIndefinite(data, pos, _minor, options) {
  if (options.allowIndefinite === false) {
    throw new Error(`${decodeErrPrefix} indefinite length items not allowed`);
  }
  return toToken4(data, pos, 1, Infinity);
}
function encodeMap(writer, token) {
  encodeUintValue(writer, Type.map.majorEncoded, token.value);
}
encodeMap.compareTokens = encodeUint.compareTokens;
encodeMap.encodedSize = function encodedSize6(token) {
  return encodeUintValue.encodedSize(token.value);
};

// node_modules/cborg/lib/6tag.js
function decodeTagCompact(_data, _pos, minor, _options) {
  return new Token(Type.tag, minor, 1);
}
function decodeTag8(data, pos, _minor, options) {
  return new Token(Type.tag, readUint8(data, pos + 1, options), 2);
}
function decodeTag16(data, pos, _minor, options) {
  return new Token(Type.tag, readUint16(data, pos + 1, options), 3);
}
function decodeTag32(data, pos, _minor, options) {
  return new Token(Type.tag, readUint32(data, pos + 1, options), 5);
}
function decodeTag64(data, pos, _minor, options) {
  return new Token(Type.tag, readUint64(data, pos + 1, options), 9);
}
function encodeTag(writer, token) {
  encodeUintValue(writer, Type.tag.majorEncoded, token.value);
}
encodeTag.compareTokens = encodeUint.compareTokens;
encodeTag.encodedSize = function encodedSize7(token) {
  return encodeUintValue.encodedSize(token.value);
};

// node_modules/cborg/lib/7float.js
var MINOR_FALSE = 20;
var MINOR_TRUE = 21;
var MINOR_NULL = 22;
var MINOR_UNDEFINED = 23;
function decodeUndefined(_data, _pos, _minor, options) {
  if (options.allowUndefined === false) {
    throw new Error(`${decodeErrPrefix} undefined values are not supported`);
  } else if (options.coerceUndefinedToNull === true) {
    return new Token(Type.null, null, 1);
  }
  return new Token(Type.undefined, void 0, 1);
}
function decodeBreak(_data, _pos, _minor, options) {
  if (options.allowIndefinite === false) {
    throw new Error(`${decodeErrPrefix} indefinite length items not allowed`);
  }
  return new Token(Type.break, void 0, 1);
}
function createToken(value, bytes, options) {
  if (options) {
    if (options.allowNaN === false && Number.isNaN(value)) {
      throw new Error(`${decodeErrPrefix} NaN values are not supported`);
    }
    if (options.allowInfinity === false && (value === Infinity || value === -Infinity)) {
      throw new Error(`${decodeErrPrefix} Infinity values are not supported`);
    }
  }
  return new Token(Type.float, value, bytes);
}
function decodeFloat16(data, pos, _minor, options) {
  return createToken(readFloat16(data, pos + 1), 3, options);
}
function decodeFloat32(data, pos, _minor, options) {
  return createToken(readFloat32(data, pos + 1), 5, options);
}
function decodeFloat64(data, pos, _minor, options) {
  return createToken(readFloat64(data, pos + 1), 9, options);
}
function encodeFloat(writer, token, options) {
  const float = token.value;
  if (float === false) {
    writer.pushByte(Type.float.majorEncoded | MINOR_FALSE);
  } else if (float === true) {
    writer.pushByte(Type.float.majorEncoded | MINOR_TRUE);
  } else if (float === null) {
    writer.pushByte(Type.float.majorEncoded | MINOR_NULL);
  } else if (float === void 0) {
    writer.pushByte(Type.float.majorEncoded | MINOR_UNDEFINED);
  } else {
    let decoded;
    let success = false;
    if (!options || options.float64 !== true) {
      encodeFloat16(float);
      decoded = readFloat16(ui8a, 1);
      if (float === decoded || Number.isNaN(float)) {
        ui8a[0] = 249;
        writer.push(ui8a.slice(0, 3));
        success = true;
      } else {
        encodeFloat32(float);
        decoded = readFloat32(ui8a, 1);
        if (float === decoded) {
          ui8a[0] = 250;
          writer.push(ui8a.slice(0, 5));
          success = true;
        }
      }
    }
    if (!success) {
      encodeFloat64(float);
      decoded = readFloat64(ui8a, 1);
      ui8a[0] = 251;
      writer.push(ui8a.slice(0, 9));
    }
  }
}
encodeFloat.encodedSize = function encodedSize8(token, options) {
  const float = token.value;
  if (float === false || float === true || float === null || float === void 0) {
    return 1;
  }
  if (!options || options.float64 !== true) {
    encodeFloat16(float);
    let decoded = readFloat16(ui8a, 1);
    if (float === decoded || Number.isNaN(float)) {
      return 3;
    }
    encodeFloat32(float);
    decoded = readFloat32(ui8a, 1);
    if (float === decoded) {
      return 5;
    }
  }
  return 9;
};
var buffer = new ArrayBuffer(9);
var dataView = new DataView(buffer, 1);
var ui8a = new Uint8Array(buffer, 0);
function encodeFloat16(inp) {
  if (inp === Infinity) {
    dataView.setUint16(0, 31744, false);
  } else if (inp === -Infinity) {
    dataView.setUint16(0, 64512, false);
  } else if (Number.isNaN(inp)) {
    dataView.setUint16(0, 32256, false);
  } else {
    dataView.setFloat32(0, inp);
    const valu32 = dataView.getUint32(0);
    const exponent = (valu32 & 2139095040) >> 23;
    const mantissa = valu32 & 8388607;
    if (exponent === 255) {
      dataView.setUint16(0, 31744, false);
    } else if (exponent === 0) {
      dataView.setUint16(0, (valu32 & 2147483648) >> 16 | mantissa >> 13, false);
    } else {
      const logicalExponent = exponent - 127;
      if (logicalExponent < -24) {
        dataView.setUint16(0, 0);
      } else if (logicalExponent < -14) {
        dataView.setUint16(0, (valu32 & 2147483648) >> 16 | /* sign bit */
        1 << 24 + logicalExponent, false);
      } else {
        dataView.setUint16(0, (valu32 & 2147483648) >> 16 | logicalExponent + 15 << 10 | mantissa >> 13, false);
      }
    }
  }
}
function readFloat16(ui8a2, pos) {
  if (ui8a2.length - pos < 2) {
    throw new Error(`${decodeErrPrefix} not enough data for float16`);
  }
  const half = (ui8a2[pos] << 8) + ui8a2[pos + 1];
  if (half === 31744) {
    return Infinity;
  }
  if (half === 64512) {
    return -Infinity;
  }
  if (half === 32256) {
    return NaN;
  }
  const exp = half >> 10 & 31;
  const mant = half & 1023;
  let val;
  if (exp === 0) {
    val = mant * 2 ** -24;
  } else if (exp !== 31) {
    val = (mant + 1024) * 2 ** (exp - 25);
  } else {
    val = mant === 0 ? Infinity : NaN;
  }
  return half & 32768 ? -val : val;
}
function encodeFloat32(inp) {
  dataView.setFloat32(0, inp, false);
}
function readFloat32(ui8a2, pos) {
  if (ui8a2.length - pos < 4) {
    throw new Error(`${decodeErrPrefix} not enough data for float32`);
  }
  const offset = (ui8a2.byteOffset || 0) + pos;
  return new DataView(ui8a2.buffer, offset, 4).getFloat32(0, false);
}
function encodeFloat64(inp) {
  dataView.setFloat64(0, inp, false);
}
function readFloat64(ui8a2, pos) {
  if (ui8a2.length - pos < 8) {
    throw new Error(`${decodeErrPrefix} not enough data for float64`);
  }
  const offset = (ui8a2.byteOffset || 0) + pos;
  return new DataView(ui8a2.buffer, offset, 8).getFloat64(0, false);
}
function encodeMajorSevenBytes(token, float64) {
  const float = token.value;
  if (float === false) {
    return Uint8Array.of(Type.float.majorEncoded | MINOR_FALSE);
  }
  if (float === true) {
    return Uint8Array.of(Type.float.majorEncoded | MINOR_TRUE);
  }
  if (float === null) {
    return Uint8Array.of(Type.float.majorEncoded | MINOR_NULL);
  }
  if (float === void 0) {
    return Uint8Array.of(Type.float.majorEncoded | MINOR_UNDEFINED);
  }
  if (!float64) {
    encodeFloat16(float);
    if (float === readFloat16(ui8a, 1) || Number.isNaN(float)) {
      ui8a[0] = 249;
      return ui8a.slice(0, 3);
    }
    encodeFloat32(float);
    if (float === readFloat32(ui8a, 1)) {
      ui8a[0] = 250;
      return ui8a.slice(0, 5);
    }
  }
  encodeFloat64(float);
  ui8a[0] = 251;
  return ui8a.slice(0, 9);
}
function majorSevenBytes(token, options) {
  const tokenEx = (
    /** @type {TokenEx} */
    token
  );
  const float64 = options?.float64 === true;
  const cached = float64 ? tokenEx._keyBytesFloat64 : tokenEx._keyBytes;
  if (cached !== void 0) {
    return cached;
  }
  const bytes = encodeMajorSevenBytes(token, float64);
  if (float64) {
    tokenEx._keyBytesFloat64 = bytes;
  } else {
    tokenEx._keyBytes = bytes;
  }
  return bytes;
}
encodeFloat.compareTokens = function compareTokens4(tok1, tok2, options) {
  const b1 = majorSevenBytes(tok1, options);
  const b2 = majorSevenBytes(tok2, options);
  if (b1.length !== b2.length) {
    return b1.length < b2.length ? -1 : 1;
  }
  return compare(b1, b2);
};

// node_modules/cborg/lib/jump.js
function invalidMinor(data, pos, minor) {
  throw new Error(`${decodeErrPrefix} encountered invalid minor (${minor}) for major ${data[pos] >>> 5}`);
}
function errorer(msg) {
  return () => {
    throw new Error(`${decodeErrPrefix} ${msg}`);
  };
}
var jump = [];
for (let i = 0; i <= 23; i++) {
  jump[i] = invalidMinor;
}
jump[24] = decodeUint8;
jump[25] = decodeUint16;
jump[26] = decodeUint32;
jump[27] = decodeUint64;
jump[28] = invalidMinor;
jump[29] = invalidMinor;
jump[30] = invalidMinor;
jump[31] = invalidMinor;
for (let i = 32; i <= 55; i++) {
  jump[i] = invalidMinor;
}
jump[56] = decodeNegint8;
jump[57] = decodeNegint16;
jump[58] = decodeNegint32;
jump[59] = decodeNegint64;
jump[60] = invalidMinor;
jump[61] = invalidMinor;
jump[62] = invalidMinor;
jump[63] = invalidMinor;
for (let i = 64; i <= 87; i++) {
  jump[i] = decodeBytesCompact;
}
jump[88] = decodeBytes8;
jump[89] = decodeBytes16;
jump[90] = decodeBytes32;
jump[91] = decodeBytes64;
jump[92] = invalidMinor;
jump[93] = invalidMinor;
jump[94] = invalidMinor;
jump[95] = errorer("indefinite length bytes/strings are not supported");
for (let i = 96; i <= 119; i++) {
  jump[i] = decodeStringCompact;
}
jump[120] = decodeString8;
jump[121] = decodeString16;
jump[122] = decodeString32;
jump[123] = decodeString64;
jump[124] = invalidMinor;
jump[125] = invalidMinor;
jump[126] = invalidMinor;
jump[127] = errorer("indefinite length bytes/strings are not supported");
for (let i = 128; i <= 151; i++) {
  jump[i] = decodeArrayCompact;
}
jump[152] = decodeArray8;
jump[153] = decodeArray16;
jump[154] = decodeArray32;
jump[155] = decodeArray64;
jump[156] = invalidMinor;
jump[157] = invalidMinor;
jump[158] = invalidMinor;
jump[159] = decodeArrayIndefinite;
for (let i = 160; i <= 183; i++) {
  jump[i] = decodeMapCompact;
}
jump[184] = decodeMap8;
jump[185] = decodeMap16;
jump[186] = decodeMap32;
jump[187] = decodeMap64;
jump[188] = invalidMinor;
jump[189] = invalidMinor;
jump[190] = invalidMinor;
jump[191] = decodeMapIndefinite;
for (let i = 192; i <= 215; i++) {
  jump[i] = decodeTagCompact;
}
jump[216] = decodeTag8;
jump[217] = decodeTag16;
jump[218] = decodeTag32;
jump[219] = decodeTag64;
jump[220] = invalidMinor;
jump[221] = invalidMinor;
jump[222] = invalidMinor;
jump[223] = invalidMinor;
for (let i = 224; i <= 243; i++) {
  jump[i] = errorer("simple values are not supported");
}
jump[244] = invalidMinor;
jump[245] = invalidMinor;
jump[246] = invalidMinor;
jump[247] = decodeUndefined;
jump[248] = errorer("simple values are not supported");
jump[249] = decodeFloat16;
jump[250] = decodeFloat32;
jump[251] = decodeFloat64;
jump[252] = invalidMinor;
jump[253] = invalidMinor;
jump[254] = invalidMinor;
jump[255] = decodeBreak;
var quick = [];
for (let i = 0; i < 24; i++) {
  quick[i] = new Token(Type.uint, i, 1);
}
for (let i = -1; i >= -24; i--) {
  quick[31 - i] = new Token(Type.negint, i, 1);
}
quick[64] = new Token(Type.bytes, new Uint8Array(0), 1);
quick[96] = new Token(Type.string, "", 1);
quick[128] = new Token(Type.array, 0, 1);
quick[160] = new Token(Type.map, 0, 1);
quick[244] = new Token(Type.false, false, 1);
quick[245] = new Token(Type.true, true, 1);
quick[246] = new Token(Type.null, null, 1);
function quickEncodeToken(token) {
  switch (token.type) {
    case Type.false:
      return fromArray([244]);
    case Type.true:
      return fromArray([245]);
    case Type.null:
      return fromArray([246]);
    case Type.bytes:
      if (!token.value.length) {
        return fromArray([64]);
      }
      return;
    case Type.string:
      if (token.value === "") {
        return fromArray([96]);
      }
      return;
    case Type.array:
      if (token.value === 0) {
        return fromArray([128]);
      }
      return;
    case Type.map:
      if (token.value === 0) {
        return fromArray([160]);
      }
      return;
    case Type.uint:
      if (token.value < 24) {
        return fromArray([Number(token.value)]);
      }
      return;
    case Type.negint:
      if (token.value >= -24) {
        return fromArray([31 - Number(token.value)]);
      }
  }
}

// node_modules/cborg/lib/encode.js
var defaultEncodeOptions = {
  float64: false,
  mapSorter,
  quickEncodeToken
};
var rfc8949EncodeOptions = Object.freeze({
  mapSorter: rfc8949MapSorter,
  quickEncodeToken
});
function makeCborEncoders() {
  const encoders = [];
  encoders[Type.uint.major] = encodeUint;
  encoders[Type.negint.major] = encodeNegint;
  encoders[Type.bytes.major] = encodeBytes;
  encoders[Type.string.major] = encodeString;
  encoders[Type.array.major] = encodeArray;
  encoders[Type.map.major] = encodeMap;
  encoders[Type.tag.major] = encodeTag;
  encoders[Type.float.major] = encodeFloat;
  return encoders;
}
var cborEncoders = makeCborEncoders();
var defaultWriter = new Bl();
var Ref = class _Ref {
  /**
   * @param {object|any[]} obj
   * @param {Reference|undefined} parent
   */
  constructor(obj, parent) {
    this.obj = obj;
    this.parent = parent;
  }
  /**
   * @param {object|any[]} obj
   * @returns {boolean}
   */
  includes(obj) {
    let p = this;
    do {
      if (p.obj === obj) {
        return true;
      }
    } while (p = p.parent);
    return false;
  }
  /**
   * @param {Reference|undefined} stack
   * @param {object|any[]} obj
   * @returns {Reference}
   */
  static createCheck(stack, obj) {
    if (stack && stack.includes(obj)) {
      throw new Error(`${encodeErrPrefix} object contains circular references`);
    }
    return new _Ref(obj, stack);
  }
};
var simpleTokens = {
  null: new Token(Type.null, null),
  undefined: new Token(Type.undefined, void 0),
  true: new Token(Type.true, true),
  false: new Token(Type.false, false),
  emptyArray: new Token(Type.array, 0),
  emptyMap: new Token(Type.map, 0)
};
var typeEncoders = {
  /**
   * @param {any} obj
   * @param {string} _typ
   * @param {EncodeOptions} _options
   * @param {Reference} [_refStack]
   * @returns {TokenOrNestedTokens}
   */
  number(obj, _typ, _options, _refStack) {
    if (!Number.isInteger(obj) || !Number.isSafeInteger(obj)) {
      return new Token(Type.float, obj);
    } else if (obj >= 0) {
      return new Token(Type.uint, obj);
    } else {
      return new Token(Type.negint, obj);
    }
  },
  /**
   * @param {any} obj
   * @param {string} _typ
   * @param {EncodeOptions} _options
   * @param {Reference} [_refStack]
   * @returns {TokenOrNestedTokens}
   */
  bigint(obj, _typ, _options, _refStack) {
    if (obj >= BigInt(0)) {
      return new Token(Type.uint, obj);
    } else {
      return new Token(Type.negint, obj);
    }
  },
  /**
   * @param {any} obj
   * @param {string} _typ
   * @param {EncodeOptions} _options
   * @param {Reference} [_refStack]
   * @returns {TokenOrNestedTokens}
   */
  Uint8Array(obj, _typ, _options, _refStack) {
    return new Token(Type.bytes, obj);
  },
  /**
   * @param {any} obj
   * @param {string} _typ
   * @param {EncodeOptions} _options
   * @param {Reference} [_refStack]
   * @returns {TokenOrNestedTokens}
   */
  string(obj, _typ, _options, _refStack) {
    return new Token(Type.string, obj);
  },
  /**
   * @param {any} obj
   * @param {string} _typ
   * @param {EncodeOptions} _options
   * @param {Reference} [_refStack]
   * @returns {TokenOrNestedTokens}
   */
  boolean(obj, _typ, _options, _refStack) {
    return obj ? simpleTokens.true : simpleTokens.false;
  },
  /**
   * @param {any} _obj
   * @param {string} _typ
   * @param {EncodeOptions} _options
   * @param {Reference} [_refStack]
   * @returns {TokenOrNestedTokens}
   */
  null(_obj, _typ, _options, _refStack) {
    return simpleTokens.null;
  },
  /**
   * @param {any} _obj
   * @param {string} _typ
   * @param {EncodeOptions} _options
   * @param {Reference} [_refStack]
   * @returns {TokenOrNestedTokens}
   */
  undefined(_obj, _typ, _options, _refStack) {
    return simpleTokens.undefined;
  },
  /**
   * @param {any} obj
   * @param {string} _typ
   * @param {EncodeOptions} _options
   * @param {Reference} [_refStack]
   * @returns {TokenOrNestedTokens}
   */
  ArrayBuffer(obj, _typ, _options, _refStack) {
    return new Token(Type.bytes, new Uint8Array(obj));
  },
  /**
   * @param {any} obj
   * @param {string} _typ
   * @param {EncodeOptions} _options
   * @param {Reference} [_refStack]
   * @returns {TokenOrNestedTokens}
   */
  DataView(obj, _typ, _options, _refStack) {
    return new Token(Type.bytes, new Uint8Array(obj.buffer, obj.byteOffset, obj.byteLength));
  },
  /**
   * @param {any} obj
   * @param {string} _typ
   * @param {EncodeOptions} options
   * @param {Reference} [refStack]
   * @returns {TokenOrNestedTokens}
   */
  Array(obj, _typ, options, refStack) {
    if (!obj.length) {
      if (options.addBreakTokens === true) {
        return [simpleTokens.emptyArray, new Token(Type.break)];
      }
      return simpleTokens.emptyArray;
    }
    refStack = Ref.createCheck(refStack, obj);
    const entries = [];
    let i = 0;
    for (const e of obj) {
      entries[i++] = objectToTokens(e, options, refStack);
    }
    if (options.addBreakTokens) {
      return [new Token(Type.array, obj.length), entries, new Token(Type.break)];
    }
    return [new Token(Type.array, obj.length), entries];
  },
  /**
   * @param {any} obj
   * @param {string} typ
   * @param {EncodeOptions} options
   * @param {Reference} [refStack]
   * @returns {TokenOrNestedTokens}
   */
  Object(obj, typ, options, refStack) {
    const isMap = typ !== "Object";
    const keys = isMap ? obj.keys() : Object.keys(obj);
    const maxLength = isMap ? obj.size : keys.length;
    let entries;
    if (maxLength) {
      entries = new Array(maxLength);
      refStack = Ref.createCheck(refStack, obj);
      const skipUndefined = !isMap && options.ignoreUndefinedProperties;
      let i = 0;
      for (const key of keys) {
        const value = isMap ? obj.get(key) : obj[key];
        if (skipUndefined && value === void 0) {
          continue;
        }
        entries[i++] = [
          objectToTokens(key, options, refStack),
          objectToTokens(value, options, refStack)
        ];
      }
      if (i < maxLength) {
        entries.length = i;
      }
    }
    if (!entries?.length) {
      if (options.addBreakTokens === true) {
        return [simpleTokens.emptyMap, new Token(Type.break)];
      }
      return simpleTokens.emptyMap;
    }
    sortMapEntries(entries, options);
    if (options.addBreakTokens) {
      return [new Token(Type.map, entries.length), entries, new Token(Type.break)];
    }
    return [new Token(Type.map, entries.length), entries];
  },
  /**
   * Encode a `Tagged` wrapper as a CBOR tag header followed by the encoded
   * form of the wrapped value. The value is recursively tokenised through
   * `objectToTokens()` so any registered `typeEncoders` apply to it.
   *
   * @param {any} obj
   * @param {string} _typ
   * @param {EncodeOptions} options
   * @param {Reference} [refStack]
   * @returns {TokenOrNestedTokens}
   */
  Tagged(obj, _typ, options, refStack) {
    return [
      new Token(Type.tag, obj.tag),
      objectToTokens(obj.value, options, refStack)
    ];
  }
};
typeEncoders.Map = typeEncoders.Object;
typeEncoders.Buffer = typeEncoders.Uint8Array;
for (const typ of "Uint8Clamped Uint16 Uint32 Int8 Int16 Int32 BigUint64 BigInt64 Float32 Float64".split(" ")) {
  typeEncoders[`${typ}Array`] = typeEncoders.DataView;
}
function objectToTokens(obj, options = {}, refStack) {
  const typ = is(obj);
  const customTypeEncoder = options && options.typeEncoders && /** @type {OptionalTypeEncoder} */
  options.typeEncoders[typ] || typeEncoders[typ];
  if (typeof customTypeEncoder === "function") {
    const tokens = customTypeEncoder(obj, typ, options, refStack);
    if (tokens != null) {
      return tokens;
    }
  }
  const typeEncoder = typeEncoders[typ];
  if (!typeEncoder) {
    throw new Error(`${encodeErrPrefix} unsupported type: ${typ}`);
  }
  return typeEncoder(obj, typ, options, refStack);
}
function sortMapEntries(entries, options) {
  const mapSorter2 = (
    /** @type {(e1: TokenOrNestedTokens, e2: TokenOrNestedTokens, options?: EncodeOptions) => number} */
    options.mapSorter
  );
  if (mapSorter2) {
    entries.sort((e1, e2) => mapSorter2(e1, e2, options));
  }
}
function mapSorter(e1, e2, options) {
  const keyToken1 = Array.isArray(e1[0]) ? e1[0][0] : e1[0];
  const keyToken2 = Array.isArray(e2[0]) ? e2[0][0] : e2[0];
  if (keyToken1.type.major !== keyToken2.type.major) {
    return keyToken1.type.compare(keyToken2.type);
  }
  const major = keyToken1.type.major;
  const tcmp = cborEncoders[major].compareTokens(keyToken1, keyToken2, options);
  if (tcmp === 0) {
    console.warn("WARNING: complex key types used, CBOR key sorting guarantees are gone");
  }
  return tcmp;
}
function rfc8949MapSorter(e1, e2) {
  if (e1[0] instanceof Token && e2[0] instanceof Token) {
    const t1 = (
      /** @type {TokenEx} */
      e1[0]
    );
    const t2 = (
      /** @type {TokenEx} */
      e2[0]
    );
    if (!t1._keyBytes) {
      t1._keyBytes = encodeRfc8949(t1.value);
    }
    if (!t2._keyBytes) {
      t2._keyBytes = encodeRfc8949(t2.value);
    }
    return compare(t1._keyBytes, t2._keyBytes);
  }
  throw new Error("rfc8949MapSorter: complex key types are not supported yet");
}
function encodeRfc8949(data) {
  return encodeCustom(data, cborEncoders, rfc8949EncodeOptions);
}
function tokensToEncoded(writer, tokens, encoders, options) {
  if (Array.isArray(tokens)) {
    for (const token of tokens) {
      tokensToEncoded(writer, token, encoders, options);
    }
  } else {
    encoders[tokens.type.major](writer, tokens, options);
  }
}
var MAJOR_UINT = Type.uint.majorEncoded;
var MAJOR_NEGINT = Type.negint.majorEncoded;
var MAJOR_BYTES = Type.bytes.majorEncoded;
var MAJOR_STRING = Type.string.majorEncoded;
var MAJOR_ARRAY = Type.array.majorEncoded;
var MAJOR_MAP = Type.map.majorEncoded;
var SIMPLE_FALSE = Type.float.majorEncoded | MINOR_FALSE;
var SIMPLE_TRUE = Type.float.majorEncoded | MINOR_TRUE;
var SIMPLE_NULL = Type.float.majorEncoded | MINOR_NULL;
var SIMPLE_UNDEFINED = Type.float.majorEncoded | MINOR_UNDEFINED;
var neg1b2 = BigInt(-1);
var pos1b2 = BigInt(1);
function directEncodeUintValue(writer, major, uint) {
  if (uint < 24) {
    writer.pushByte(major | Number(uint));
  } else {
    encodeUintValue(writer, major, uint);
  }
}
function canDirectEncode(options) {
  return options.addBreakTokens !== true;
}
function directEncodeMap(writer, data, typ, options, refStack) {
  const isMap = typ === "Map";
  const keys = isMap ? data.keys() : Object.keys(data);
  const maxLength = isMap ? data.size : keys.length;
  if (!maxLength) {
    writer.pushByte(MAJOR_MAP);
    return;
  }
  refStack = Ref.createCheck(refStack, data);
  const skipUndefined = !isMap && options.ignoreUndefinedProperties;
  const entries = new Array(maxLength);
  let length = 0;
  for (const key of keys) {
    const value = isMap ? data.get(key) : data[key];
    if (skipUndefined && value === void 0) {
      continue;
    }
    entries[length++] = [objectToTokens(key, options, refStack), value];
  }
  if (length === 0) {
    writer.pushByte(MAJOR_MAP);
    return;
  }
  if (length < maxLength) {
    entries.length = length;
  }
  entries.sort((e1, e2) => mapSorter(e1, e2, options));
  directEncodeUintValue(writer, MAJOR_MAP, length);
  for (const [key, value] of entries) {
    tokensToEncoded(writer, key, cborEncoders, options);
    directEncode(writer, value, options, refStack);
  }
}
function directEncode(writer, data, options, refStack) {
  const typ = is(data);
  const customEncoder = options.typeEncoders && options.typeEncoders[typ];
  if (customEncoder) {
    const tokens = customEncoder(data, typ, options, refStack);
    if (tokens != null) {
      tokensToEncoded(writer, tokens, cborEncoders, options);
      return;
    }
  }
  switch (typ) {
    case "null":
      writer.pushByte(SIMPLE_NULL);
      return;
    case "undefined":
      writer.pushByte(SIMPLE_UNDEFINED);
      return;
    case "boolean":
      writer.pushByte(data ? SIMPLE_TRUE : SIMPLE_FALSE);
      return;
    case "number":
      if (!Number.isInteger(data) || !Number.isSafeInteger(data)) {
        encodeFloat(writer, new Token(Type.float, data), options);
      } else if (data >= 0) {
        directEncodeUintValue(writer, MAJOR_UINT, data);
      } else {
        directEncodeUintValue(writer, MAJOR_NEGINT, data * -1 - 1);
      }
      return;
    case "bigint":
      if (data >= BigInt(0)) {
        directEncodeUintValue(writer, MAJOR_UINT, data);
      } else {
        directEncodeUintValue(writer, MAJOR_NEGINT, data * neg1b2 - pos1b2);
      }
      return;
    case "string": {
      const bytes = fromString(data);
      directEncodeUintValue(writer, MAJOR_STRING, bytes.length);
      writer.push(bytes);
      return;
    }
    case "Uint8Array":
      directEncodeUintValue(writer, MAJOR_BYTES, data.length);
      writer.push(data);
      return;
    case "Array":
      if (!data.length) {
        writer.pushByte(MAJOR_ARRAY);
        return;
      }
      refStack = Ref.createCheck(refStack, data);
      directEncodeUintValue(writer, MAJOR_ARRAY, data.length);
      for (const elem of data) {
        directEncode(writer, elem, options, refStack);
      }
      return;
    case "Object":
    case "Map":
      if (options.mapSorter === mapSorter) {
        directEncodeMap(writer, data, typ, options, refStack);
      } else {
        const tokens = typeEncoders.Object(data, typ, options, refStack);
        tokensToEncoded(writer, tokens, cborEncoders, options);
      }
      return;
    default: {
      const typeEncoder = typeEncoders[typ];
      if (!typeEncoder) {
        throw new Error(`${encodeErrPrefix} unsupported type: ${typ}`);
      }
      const tokens = typeEncoder(data, typ, options, refStack);
      tokensToEncoded(writer, tokens, cborEncoders, options);
    }
  }
}
function encodeCustom(data, encoders, options, destination) {
  const hasDest = destination instanceof Uint8Array;
  let writeTo = hasDest ? new U8Bl(destination) : defaultWriter;
  const tokens = objectToTokens(data, options);
  if (!Array.isArray(tokens) && options.quickEncodeToken) {
    const quickBytes = options.quickEncodeToken(tokens);
    if (quickBytes) {
      if (hasDest) {
        writeTo.push(quickBytes);
        return writeTo.toBytes();
      }
      return quickBytes;
    }
    const encoder = encoders[tokens.type.major];
    if (encoder.encodedSize) {
      const size = encoder.encodedSize(tokens, options);
      if (!hasDest) {
        writeTo = new Bl(size);
      }
      encoder(writeTo, tokens, options);
      if (writeTo.chunks.length !== 1) {
        throw new Error(`Unexpected error: pre-calculated length for ${tokens} was wrong`);
      }
      return hasDest ? writeTo.toBytes() : asU8A(writeTo.chunks[0]);
    }
  }
  writeTo.reset();
  tokensToEncoded(writeTo, tokens, encoders, options);
  return writeTo.toBytes(true);
}
function encode(data, options) {
  options = Object.assign({}, defaultEncodeOptions, options);
  if (canDirectEncode(options)) {
    defaultWriter.reset();
    directEncode(defaultWriter, data, options, void 0);
    return defaultWriter.toBytes(true);
  }
  return encodeCustom(data, cborEncoders, options);
}

// node_modules/cborg/lib/decode.js
var defaultDecodeOptions = {
  strict: false,
  allowIndefinite: true,
  allowUndefined: true,
  allowBigInt: true
};
var Tokeniser = class {
  /**
   * @param {Uint8Array} data
   * @param {DecodeOptions} options
   */
  constructor(data, options = {}) {
    this._pos = 0;
    this.data = data;
    this.options = options;
  }
  pos() {
    return this._pos;
  }
  done() {
    return this._pos >= this.data.length;
  }
  next() {
    const byt = this.data[this._pos];
    let token = quick[byt];
    if (token === void 0) {
      const decoder = jump[byt];
      if (!decoder) {
        throw new Error(`${decodeErrPrefix} no decoder for major type ${byt >>> 5} (byte 0x${byt.toString(16).padStart(2, "0")})`);
      }
      const minor = byt & 31;
      token = decoder(this.data, this._pos, minor, this.options);
    }
    this._pos += token.encodedLength;
    return token;
  }
};
var DONE = /* @__PURE__ */ Symbol.for("DONE");
var BREAK = /* @__PURE__ */ Symbol.for("BREAK");
function tokenToArray(token, tokeniser, options) {
  const arr = [];
  for (let i = 0; i < token.value; i++) {
    const value = tokensToObject(tokeniser, options);
    if (value === BREAK) {
      if (token.value === Infinity) {
        break;
      }
      throw new Error(`${decodeErrPrefix} got unexpected break to lengthed array`);
    }
    if (value === DONE) {
      throw new Error(`${decodeErrPrefix} found array but not enough entries (got ${i}, expected ${token.value})`);
    }
    arr[i] = value;
  }
  return arr;
}
function tokenToMap(token, tokeniser, options) {
  const useMaps = options.useMaps === true;
  const rejectDuplicateMapKeys = options.rejectDuplicateMapKeys === true;
  const obj = useMaps ? void 0 : {};
  const m = useMaps ? /* @__PURE__ */ new Map() : void 0;
  for (let i = 0; i < token.value; i++) {
    const key = tokensToObject(tokeniser, options);
    if (key === BREAK) {
      if (token.value === Infinity) {
        break;
      }
      throw new Error(`${decodeErrPrefix} got unexpected break to lengthed map`);
    }
    if (key === DONE) {
      throw new Error(`${decodeErrPrefix} found map but not enough entries (got ${i} [no key], expected ${token.value})`);
    }
    if (!useMaps && typeof key !== "string") {
      throw new Error(`${decodeErrPrefix} non-string keys not supported (got ${typeof key})`);
    }
    if (rejectDuplicateMapKeys) {
      if (useMaps && m.has(key) || !useMaps && Object.hasOwn(obj, key)) {
        throw new Error(`${decodeErrPrefix} found repeat map key "${key}"`);
      }
    }
    const value = tokensToObject(tokeniser, options);
    if (value === DONE) {
      throw new Error(`${decodeErrPrefix} found map but not enough entries (got ${i} [no value], expected ${token.value})`);
    }
    if (useMaps) {
      m.set(key, value);
    } else if (key === "__proto__") {
      Object.defineProperty(obj, key, { value, configurable: true, enumerable: true, writable: true });
    } else {
      obj[key] = value;
    }
  }
  return useMaps ? m : obj;
}
function* tokenToMapEntries(token, tokeniser, options) {
  for (let i = 0; i < token.value; i++) {
    const key = tokensToObject(tokeniser, options);
    if (key === BREAK) {
      if (token.value === Infinity) {
        break;
      }
      throw new Error(`${decodeErrPrefix} got unexpected break to lengthed map`);
    }
    if (key === DONE) {
      throw new Error(`${decodeErrPrefix} found map but not enough entries (got ${i} [no key], expected ${token.value})`);
    }
    const value = tokensToObject(tokeniser, options);
    if (value === DONE) {
      throw new Error(`${decodeErrPrefix} found map but not enough entries (got ${i} [no value], expected ${token.value})`);
    }
    yield [key, value];
  }
}
function createTagDecodeControl(tokeniser, options) {
  const decode2 = function() {
    if (decode2._called) {
      throw new Error(`${decodeErrPrefix} tag decode() may only be called once`);
    }
    decode2._called = true;
    const value = tokensToObject(tokeniser, options);
    if (value === DONE) {
      throw new Error(`${decodeErrPrefix} tag content missing`);
    }
    if (value === BREAK) {
      throw new Error(`${decodeErrPrefix} got unexpected break in tag content`);
    }
    return value;
  };
  decode2.entries = function() {
    if (decode2._called) {
      throw new Error(`${decodeErrPrefix} tag decode() may only be called once`);
    }
    decode2._called = true;
    const token = tokeniser.next();
    if (!Type.equals(token.type, Type.map)) {
      throw new Error(`${decodeErrPrefix} entries() requires map content, got ${token.type.name}`);
    }
    const entries = [];
    for (const entry of tokenToMapEntries(token, tokeniser, options)) {
      entries.push(entry);
    }
    return entries;
  };
  decode2._called = false;
  return decode2;
}
function tokensToObject(tokeniser, options) {
  if (tokeniser.done()) {
    return DONE;
  }
  const token = tokeniser.next();
  if (Type.equals(token.type, Type.break)) {
    return BREAK;
  }
  if (token.type.terminal) {
    return token.value;
  }
  if (Type.equals(token.type, Type.array)) {
    return tokenToArray(token, tokeniser, options);
  }
  if (Type.equals(token.type, Type.map)) {
    return tokenToMap(token, tokeniser, options);
  }
  if (Type.equals(token.type, Type.tag)) {
    if (options.tags && typeof options.tags[token.value] === "function") {
      const decodeControl = createTagDecodeControl(tokeniser, options);
      const result = options.tags[token.value](decodeControl);
      if (!decodeControl._called) {
        throw new Error(`${decodeErrPrefix} tag decoder must call decode() or entries()`);
      }
      return result;
    }
    throw new Error(`${decodeErrPrefix} tag not supported (${token.value})`);
  }
  throw new Error("unsupported");
}
function decodeFirst(data, options) {
  if (!(data instanceof Uint8Array)) {
    throw new Error(`${decodeErrPrefix} data to decode must be a Uint8Array`);
  }
  options = Object.assign({}, defaultDecodeOptions, options);
  const u8aData = asU8A(data);
  const tokeniser = options.tokenizer || new Tokeniser(u8aData, options);
  const decoded = tokensToObject(tokeniser, options);
  if (decoded === DONE) {
    throw new Error(`${decodeErrPrefix} did not find any content to decode`);
  }
  if (decoded === BREAK) {
    throw new Error(`${decodeErrPrefix} got unexpected break`);
  }
  return [decoded, data.subarray(tokeniser.pos())];
}
function decode(data, options) {
  const [decoded, remainder] = decodeFirst(data, options);
  if (remainder.length > 0) {
    throw new Error(`${decodeErrPrefix} too many terminals, data makes no sense`);
  }
  return decoded;
}

// node_modules/cborg/lib/tagged.js
var Tagged = class _Tagged {
  /**
   * @param {number} tag - CBOR tag number, a non-negative integer
   * @param {any} value - The value to be tagged; encoded recursively
   */
  constructor(tag, value) {
    if (typeof tag !== "number" || !Number.isInteger(tag) || tag < 0) {
      throw new TypeError("Tagged: tag must be a non-negative integer");
    }
    this.tag = tag;
    this.value = value;
  }
  /**
   * Build a tag decoder for use in `decode()`'s `tags` option that returns the
   * decoded content wrapped in a `Tagged` instance, preserving the tag number
   * for the caller to inspect.
   *
   * @param {number} tag - The CBOR tag number this decoder will be registered for
   * @returns {TaggedTagDecoder}
   *
   * @example
   * import { decode, Tagged } from 'cborg'
   * const value = decode(bytes, { tags: { 16: Tagged.decoder(16) } })
   * // value instanceof Tagged; value.tag === 16
   */
  static decoder(tag) {
    return (decode2) => new _Tagged(tag, decode2());
  }
  /**
   * Build a `tags` option for `decode()` that wraps each listed tag number in
   * a `Tagged` instance, preserving those tags through decode without
   * registering a dedicated decoder per tag.
   *
   * @param {...number} tagNumbers - One or more CBOR tag numbers to preserve
   * @returns {{[tagNumber: number]: TaggedTagDecoder}}
   *
   * @example
   * import { decode, Tagged } from 'cborg'
   * const value = decode(bytes, { tags: Tagged.preserve(16, 96) })
   */
  static preserve(...tagNumbers) {
    const tags = {};
    for (const tag of tagNumbers) {
      tags[tag] = _Tagged.decoder(tag);
    }
    return tags;
  }
};
Object.defineProperty(Tagged.prototype, Symbol.toStringTag, {
  value: "Tagged"
});

// src/codec/malformed.ts
var Malformed = class extends Schema.TaggedError()("Malformed", {
  what: Schema.String,
  why: Schema.String
}) {
  get message() {
    return `${this.what} is malformed: ${this.why}`;
  }
};

// src/codec/cbor.ts
var decodeOptions = {
  strict: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowBigInt: false,
  allowNaN: false,
  allowInfinity: false,
  rejectDuplicateMapKeys: true,
  useMaps: false
};
var cborDepthMax = 64;
var encodeCbor = (value) => encode(value);
var decodeCbor = (what, bytes) => {
  if (cborDepth(bytes) > cborDepthMax) return Result.fail(new Malformed({ what, why: `nested deeper than ${cborDepthMax}` }));
  try {
    return Result.succeed(decode(bytes, decodeOptions));
  } catch (cause) {
    return Result.fail(new Malformed({ what, why: cause instanceof Error ? cause.message.slice(0, 200) : "not CBOR" }));
  }
};
var cborDepth = (bytes) => {
  const open = [];
  let at = 0;
  let deepest = 0;
  while (at < bytes.length) {
    const head = bytes[at++] ?? 0;
    const major = head >> 5;
    const info = head & 31;
    let count = info;
    if (info >= 24) {
      if (info > 27) return deepest;
      const size = 1 << info - 24;
      count = 0;
      for (let i = 0; i < size; i++) count = count * 256 + (bytes[at++] ?? 0);
    }
    if (major === 2 || major === 3) at += count;
    const children = major === 4 ? count : major === 5 ? count * 2 : major === 6 ? 1 : 0;
    if (children > 0) {
      open.push(children);
      if (open.length > deepest) deepest = open.length;
      if (deepest > cborDepthMax) return deepest;
      continue;
    }
    while (open.length > 0) {
      const left = (open[open.length - 1] ?? 1) - 1;
      if (left > 0) {
        open[open.length - 1] = left;
        break;
      }
      open.pop();
    }
  }
  return deepest;
};

// node_modules/@noble/hashes/utils.js
function isBytes(a) {
  return a instanceof Uint8Array || ArrayBuffer.isView(a) && a.constructor.name === "Uint8Array" && "BYTES_PER_ELEMENT" in a && a.BYTES_PER_ELEMENT === 1;
}
var atitle = (title) => title ? `"${title}" ` : "";
function anumber(n, title = "") {
  if (typeof n !== "number")
    throw new TypeError(atitle(title) + "expected number, got " + typeof n);
  if (!Number.isSafeInteger(n) || n < 0)
    throw new RangeError(atitle(title) + "expected integer >= 0, got " + n);
  return n;
}
function abytes(value, length, title = "") {
  if (isBytes(value) && (length === void 0 || value.length === length))
    return value;
  if (length !== void 0)
    anumber(length, "length");
  const bytes = isBytes(value);
  const ofLen = length !== void 0 ? ` of length ${length}` : "";
  const got = bytes ? `length=${value.length}` : `type=${typeof value}`;
  const message = atitle(title) + "expected Uint8Array" + ofLen + ", got " + got;
  if (!bytes)
    throw new TypeError(message);
  throw new RangeError(message);
}
function copyBytes(bytes) {
  return Uint8Array.from(abytes(bytes));
}
var aobject = (value, label) => {
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw new TypeError((label === "object" ? "" : `"${label}" `) + "expected object, got type=" + typeof value);
};
var aopts = (value, label) => {
  aobject(value, label);
  const proto = Object.getPrototypeOf(value);
  if (proto !== Object.prototype && proto !== null)
    throw new TypeError(`"${label}" expected plain object`);
  if (Object.hasOwn(value, "__proto__"))
    throw new TypeError(`"${label}.__proto__" is not allowed`);
};
function aexists(instance, checkFinished = true) {
  if (instance.destroyed)
    throw new Error("hash was destroyed");
  if (checkFinished && instance.finished)
    throw new Error("digest() was already called");
}
function aoutput(out, instance) {
  abytes(out, void 0, "output");
  const min = instance.outputLen;
  if (!(out.length >= min)) {
    throw new RangeError('"output" expected length >= ' + min);
  }
}
function u32(arr) {
  return new Uint32Array(arr.buffer, arr.byteOffset, Math.floor(arr.byteLength / 4));
}
function clean(...arrays) {
  for (let i = 0; i < arrays.length; i++) {
    arrays[i].fill(0);
  }
}
var isLE = /* @__PURE__ */ (() => new Uint8Array(new Uint32Array([287454020]).buffer)[0] === 68)();
function byteSwap(word) {
  return word << 24 & 4278190080 | word << 8 & 16711680 | word >>> 8 & 65280 | word >>> 24 & 255;
}
var swap8IfBE = isLE ? (n) => n : (n) => byteSwap(n) >>> 0;
function byteSwap32(arr) {
  for (let i = 0; i < arr.length; i++) {
    arr[i] = byteSwap(arr[i]);
  }
  return arr;
}
var swap32IfBE = isLE ? (u) => u : byteSwap32;
function checkOpts(defaults, opts, title = "opts") {
  aopts(defaults, "defaults");
  if (opts !== void 0)
    aopts(opts, title);
  const merged = Object.assign(/* @__PURE__ */ Object.create(null), defaults, opts);
  return merged;
}
function createHasher(hashCons, info = {}) {
  if (typeof hashCons !== "function")
    throw new TypeError('"hashCons" expected function, got type=' + typeof hashCons);
  info = checkOpts({}, info, "info");
  const hashC = (msg, opts) => hashCons(opts).update(msg).digest();
  const tmp = hashCons(void 0);
  hashC.outputLen = tmp.outputLen;
  hashC.blockLen = tmp.blockLen;
  hashC.canXOF = tmp.canXOF;
  hashC.create = (opts) => hashCons(opts);
  Object.assign(hashC, info);
  return Object.freeze(hashC);
}

// node_modules/@noble/hashes/_blake.js
var BSIGMA = /* @__PURE__ */ Uint8Array.from([
  0,
  1,
  2,
  3,
  4,
  5,
  6,
  7,
  8,
  9,
  10,
  11,
  12,
  13,
  14,
  15,
  14,
  10,
  4,
  8,
  9,
  15,
  13,
  6,
  1,
  12,
  0,
  2,
  11,
  7,
  5,
  3,
  11,
  8,
  12,
  0,
  5,
  2,
  15,
  13,
  10,
  14,
  3,
  6,
  7,
  1,
  9,
  4,
  7,
  9,
  3,
  1,
  13,
  12,
  11,
  14,
  2,
  6,
  5,
  10,
  4,
  0,
  15,
  8,
  9,
  0,
  5,
  7,
  2,
  4,
  10,
  15,
  14,
  1,
  11,
  12,
  6,
  8,
  3,
  13,
  2,
  12,
  6,
  10,
  0,
  11,
  8,
  3,
  4,
  13,
  7,
  5,
  15,
  14,
  1,
  9,
  12,
  5,
  1,
  15,
  14,
  13,
  4,
  10,
  0,
  7,
  6,
  3,
  9,
  2,
  8,
  11,
  13,
  11,
  7,
  14,
  12,
  1,
  3,
  9,
  5,
  0,
  15,
  4,
  8,
  6,
  2,
  10,
  6,
  15,
  14,
  9,
  11,
  3,
  0,
  8,
  12,
  2,
  13,
  7,
  1,
  4,
  10,
  5,
  10,
  2,
  8,
  4,
  7,
  6,
  1,
  5,
  15,
  11,
  9,
  14,
  3,
  12,
  13,
  0,
  0,
  1,
  2,
  3,
  4,
  5,
  6,
  7,
  8,
  9,
  10,
  11,
  12,
  13,
  14,
  15,
  14,
  10,
  4,
  8,
  9,
  15,
  13,
  6,
  1,
  12,
  0,
  2,
  11,
  7,
  5,
  3,
  // Blake1, unused in others
  11,
  8,
  12,
  0,
  5,
  2,
  15,
  13,
  10,
  14,
  3,
  6,
  7,
  1,
  9,
  4,
  7,
  9,
  3,
  1,
  13,
  12,
  11,
  14,
  2,
  6,
  5,
  10,
  4,
  0,
  15,
  8,
  9,
  0,
  5,
  7,
  2,
  4,
  10,
  15,
  14,
  1,
  11,
  12,
  6,
  8,
  3,
  13,
  2,
  12,
  6,
  10,
  0,
  11,
  8,
  3,
  4,
  13,
  7,
  5,
  15,
  14,
  1,
  9
]);

// node_modules/@noble/hashes/_u64.js
var fromNumH = (n) => n / 2 ** 32 | 0;
var fromNumL = (n) => n >>> 0;
var rotrSH = (h, l, s) => h >>> s | l << 32 - s;
var rotrSL = (h, l, s) => h << 32 - s | l >>> s;
var rotrBH = (h, l, s) => h << 64 - s | l >>> s - 32;
var rotrBL = (h, l, s) => h >>> s - 32 | l << 64 - s;
var rotr32H = (_h, l) => l;
var rotr32L = (h, _l) => h;
function add(Ah, Al, Bh, Bl2) {
  const l = (Al >>> 0) + (Bl2 >>> 0);
  return { h: Ah + Bh + (l / 2 ** 32 | 0) | 0, l: l | 0 };
}
var add3L = (Al, Bl2, Cl) => (Al >>> 0) + (Bl2 >>> 0) + (Cl >>> 0);
var add3H = (low, Ah, Bh, Ch) => Ah + Bh + Ch + (low / 2 ** 32 | 0) | 0;

// node_modules/@noble/hashes/blake2.js
var B2B_IV = /* @__PURE__ */ Uint32Array.from([
  4089235720,
  1779033703,
  2227873595,
  3144134277,
  4271175723,
  1013904242,
  1595750129,
  2773480762,
  2917565137,
  1359893119,
  725511199,
  2600822924,
  4215389547,
  528734635,
  327033209,
  1541459225
]);
var BBUF = /* @__PURE__ */ new Uint32Array(32);
function G1b(a, b, c, d, msg, x) {
  const Xl = msg[x], Xh = msg[x + 1];
  let Al = BBUF[2 * a], Ah = BBUF[2 * a + 1];
  let Bl2 = BBUF[2 * b], Bh = BBUF[2 * b + 1];
  let Cl = BBUF[2 * c], Ch = BBUF[2 * c + 1];
  let Dl = BBUF[2 * d], Dh = BBUF[2 * d + 1];
  const ll = add3L(Al, Bl2, Xl);
  Ah = add3H(ll, Ah, Bh, Xh);
  Al = ll | 0;
  let xh = Dh ^ Ah, xl = Dl ^ Al;
  Dh = rotr32H(xh, xl);
  Dl = rotr32L(xh, xl);
  ({ h: Ch, l: Cl } = add(Ch, Cl, Dh, Dl));
  xh = Bh ^ Ch;
  xl = Bl2 ^ Cl;
  Bh = rotrSH(xh, xl, 24);
  Bl2 = rotrSL(xh, xl, 24);
  BBUF[2 * a] = Al;
  BBUF[2 * a + 1] = Ah;
  BBUF[2 * b] = Bl2;
  BBUF[2 * b + 1] = Bh;
  BBUF[2 * c] = Cl;
  BBUF[2 * c + 1] = Ch;
  BBUF[2 * d] = Dl;
  BBUF[2 * d + 1] = Dh;
}
function G2b(a, b, c, d, msg, x) {
  const Xl = msg[x], Xh = msg[x + 1];
  let Al = BBUF[2 * a], Ah = BBUF[2 * a + 1];
  let Bl2 = BBUF[2 * b], Bh = BBUF[2 * b + 1];
  let Cl = BBUF[2 * c], Ch = BBUF[2 * c + 1];
  let Dl = BBUF[2 * d], Dh = BBUF[2 * d + 1];
  const ll = add3L(Al, Bl2, Xl);
  Ah = add3H(ll, Ah, Bh, Xh);
  Al = ll | 0;
  let xh = Dh ^ Ah, xl = Dl ^ Al;
  Dh = rotrSH(xh, xl, 16);
  Dl = rotrSL(xh, xl, 16);
  ({ h: Ch, l: Cl } = add(Ch, Cl, Dh, Dl));
  xh = Bh ^ Ch;
  xl = Bl2 ^ Cl;
  Bh = rotrBH(xh, xl, 63);
  Bl2 = rotrBL(xh, xl, 63);
  BBUF[2 * a] = Al;
  BBUF[2 * a + 1] = Ah;
  BBUF[2 * b] = Bl2;
  BBUF[2 * b + 1] = Bh;
  BBUF[2 * c] = Cl;
  BBUF[2 * c + 1] = Ch;
  BBUF[2 * d] = Dl;
  BBUF[2 * d + 1] = Dh;
}
function checkBlake2Opts(outputLen, opts = {}, keyLen, saltLen, persLen) {
  anumber(keyLen);
  if (outputLen <= 0 || outputLen > keyLen)
    throw new Error('"dkLen" must be 1..' + keyLen + ", got " + outputLen);
  const { key, salt, personalization } = opts;
  if (key !== void 0 && (key.length < 1 || key.length > keyLen))
    throw new Error('"key" expected to be undefined or of length=1..' + keyLen);
  if (salt !== void 0)
    abytes(salt, saltLen, "salt");
  if (personalization !== void 0)
    abytes(personalization, persLen, "personalization");
}
var _BLAKE2 = class {
  buffer;
  buffer32;
  finished = false;
  destroyed = false;
  length = 0;
  pos = 0;
  blockLen;
  outputLen;
  canXOF = false;
  constructor(blockLen, outputLen) {
    anumber(blockLen);
    anumber(outputLen);
    this.blockLen = blockLen;
    this.outputLen = outputLen;
    this.buffer = new Uint8Array(blockLen);
    this.buffer32 = u32(this.buffer);
  }
  update(data) {
    aexists(this);
    abytes(data);
    const { blockLen, buffer: buffer2, buffer32 } = this;
    const len = data.length;
    const offset = data.byteOffset;
    const buf = data.buffer;
    for (let pos = 0; pos < len; ) {
      if (this.pos === blockLen) {
        swap32IfBE(buffer32);
        this.compress(buffer32, 0, false);
        swap32IfBE(buffer32);
        this.pos = 0;
      }
      const take = Math.min(blockLen - this.pos, len - pos);
      const dataOffset = offset + pos;
      if (take === blockLen && !(dataOffset % 4) && pos + take < len) {
        const data32 = new Uint32Array(buf, dataOffset, Math.floor((len - pos) / 4));
        swap32IfBE(data32);
        for (let pos32 = 0; pos + blockLen < len; pos32 += buffer32.length, pos += blockLen) {
          this.length += blockLen;
          this.compress(data32, pos32, false);
        }
        swap32IfBE(data32);
        continue;
      }
      buffer2.set(pos === 0 && take === len ? data : data.subarray(pos, pos + take), this.pos);
      this.pos += take;
      this.length += take;
      pos += take;
    }
    return this;
  }
  digestInto(out) {
    aexists(this);
    aoutput(out, this);
    if (out.byteOffset & 3)
      throw new RangeError('"output" expected 4-byte aligned byteOffset, got ' + out.byteOffset);
    const { pos, buffer32 } = this;
    this.finished = true;
    this.buffer.fill(0, pos);
    swap32IfBE(buffer32);
    this.compress(buffer32, 0, true);
    swap32IfBE(buffer32);
    const state = this.get();
    const out32 = out === this.buffer ? buffer32 : u32(out);
    const full = Math.floor(this.outputLen / 4);
    for (let i = 0; i < full; i++)
      out32[i] = swap8IfBE(state[i]);
    const tail = this.outputLen % 4;
    if (!tail)
      return;
    const off = full * 4;
    const word = state[full];
    for (let i = 0; i < tail; i++)
      out[off + i] = word >>> 8 * i;
  }
  digest() {
    const { buffer: buffer2, outputLen } = this;
    this.digestInto(buffer2);
    const res = buffer2.slice(0, outputLen);
    this.destroy();
    return res;
  }
  _cloneInto(to) {
    const { buffer: buffer2, length, finished, destroyed, outputLen, pos } = this;
    to ||= new this.constructor({ dkLen: outputLen });
    to.set(...this.get());
    to.buffer.set(buffer2);
    to.destroyed = destroyed;
    to.finished = finished;
    to.length = length;
    to.pos = pos;
    to.outputLen = outputLen;
    return to;
  }
  clone() {
    return this._cloneInto();
  }
};
var _BLAKE2b = class extends _BLAKE2 {
  // Same IV words as SHA-512 / BLAKE2b, encoded as LE u32 low/high halves.
  v0l = B2B_IV[0] | 0;
  v0h = B2B_IV[1] | 0;
  v1l = B2B_IV[2] | 0;
  v1h = B2B_IV[3] | 0;
  v2l = B2B_IV[4] | 0;
  v2h = B2B_IV[5] | 0;
  v3l = B2B_IV[6] | 0;
  v3h = B2B_IV[7] | 0;
  v4l = B2B_IV[8] | 0;
  v4h = B2B_IV[9] | 0;
  v5l = B2B_IV[10] | 0;
  v5h = B2B_IV[11] | 0;
  v6l = B2B_IV[12] | 0;
  v6h = B2B_IV[13] | 0;
  v7l = B2B_IV[14] | 0;
  v7h = B2B_IV[15] | 0;
  constructor(opts = {}) {
    opts = checkOpts({}, opts);
    const olen = opts.dkLen === void 0 ? 64 : opts.dkLen;
    super(128, olen);
    checkBlake2Opts(olen, opts, 64, 16, 16);
    let { key, personalization, salt } = opts;
    let keyLength = 0;
    if (key !== void 0) {
      abytes(key, void 0, "key");
      keyLength = key.length;
    }
    this.v0l ^= this.outputLen | keyLength << 8 | 1 << 16 | 1 << 24;
    if (salt !== void 0) {
      abytes(salt, void 0, "salt");
      const slt = u32(copyBytes(salt));
      this.v4l ^= swap8IfBE(slt[0]);
      this.v4h ^= swap8IfBE(slt[1]);
      this.v5l ^= swap8IfBE(slt[2]);
      this.v5h ^= swap8IfBE(slt[3]);
    }
    if (personalization !== void 0) {
      abytes(personalization, void 0, "personalization");
      const pers = u32(copyBytes(personalization));
      this.v6l ^= swap8IfBE(pers[0]);
      this.v6h ^= swap8IfBE(pers[1]);
      this.v7l ^= swap8IfBE(pers[2]);
      this.v7h ^= swap8IfBE(pers[3]);
    }
    if (key !== void 0) {
      const tmp = new Uint8Array(this.blockLen);
      tmp.set(key);
      this.update(tmp);
      clean(tmp);
    }
  }
  // prettier-ignore
  get() {
    let { v0l, v0h, v1l, v1h, v2l, v2h, v3l, v3h, v4l, v4h, v5l, v5h, v6l, v6h, v7l, v7h } = this;
    return [v0l, v0h, v1l, v1h, v2l, v2h, v3l, v3h, v4l, v4h, v5l, v5h, v6l, v6h, v7l, v7h];
  }
  // prettier-ignore
  set(v0l, v0h, v1l, v1h, v2l, v2h, v3l, v3h, v4l, v4h, v5l, v5h, v6l, v6h, v7l, v7h) {
    this.v0l = v0l | 0;
    this.v0h = v0h | 0;
    this.v1l = v1l | 0;
    this.v1h = v1h | 0;
    this.v2l = v2l | 0;
    this.v2h = v2h | 0;
    this.v3l = v3l | 0;
    this.v3h = v3h | 0;
    this.v4l = v4l | 0;
    this.v4h = v4h | 0;
    this.v5l = v5l | 0;
    this.v5h = v5h | 0;
    this.v6l = v6l | 0;
    this.v6h = v6h | 0;
    this.v7l = v7l | 0;
    this.v7h = v7h | 0;
  }
  compress(msg, offset, isLast) {
    const { v0l, v0h, v1l, v1h, v2l, v2h, v3l, v3h, v4l, v4h, v5l, v5h, v6l, v6h, v7l, v7h } = this;
    {
      BBUF[0] = v0l;
      BBUF[1] = v0h;
      BBUF[2] = v1l;
      BBUF[3] = v1h;
      BBUF[4] = v2l;
      BBUF[5] = v2h;
      BBUF[6] = v3l;
      BBUF[7] = v3h;
      BBUF[8] = v4l;
      BBUF[9] = v4h;
      BBUF[10] = v5l;
      BBUF[11] = v5h;
      BBUF[12] = v6l;
      BBUF[13] = v6h;
      BBUF[14] = v7l;
      BBUF[15] = v7h;
    }
    BBUF.set(B2B_IV, 16);
    const l = fromNumL(this.length);
    const h = fromNumH(this.length);
    BBUF[24] = B2B_IV[8] ^ l;
    BBUF[25] = B2B_IV[9] ^ h;
    if (isLast) {
      BBUF[28] = ~BBUF[28];
      BBUF[29] = ~BBUF[29];
    }
    let j = 0;
    const s = BSIGMA;
    for (let i = 0; i < 12; i++) {
      G1b(0, 4, 8, 12, msg, offset + 2 * s[j++]);
      G2b(0, 4, 8, 12, msg, offset + 2 * s[j++]);
      G1b(1, 5, 9, 13, msg, offset + 2 * s[j++]);
      G2b(1, 5, 9, 13, msg, offset + 2 * s[j++]);
      G1b(2, 6, 10, 14, msg, offset + 2 * s[j++]);
      G2b(2, 6, 10, 14, msg, offset + 2 * s[j++]);
      G1b(3, 7, 11, 15, msg, offset + 2 * s[j++]);
      G2b(3, 7, 11, 15, msg, offset + 2 * s[j++]);
      G1b(0, 5, 10, 15, msg, offset + 2 * s[j++]);
      G2b(0, 5, 10, 15, msg, offset + 2 * s[j++]);
      G1b(1, 6, 11, 12, msg, offset + 2 * s[j++]);
      G2b(1, 6, 11, 12, msg, offset + 2 * s[j++]);
      G1b(2, 7, 8, 13, msg, offset + 2 * s[j++]);
      G2b(2, 7, 8, 13, msg, offset + 2 * s[j++]);
      G1b(3, 4, 9, 14, msg, offset + 2 * s[j++]);
      G2b(3, 4, 9, 14, msg, offset + 2 * s[j++]);
    }
    this.v0l ^= BBUF[0] ^ BBUF[16];
    this.v0h ^= BBUF[1] ^ BBUF[17];
    this.v1l ^= BBUF[2] ^ BBUF[18];
    this.v1h ^= BBUF[3] ^ BBUF[19];
    this.v2l ^= BBUF[4] ^ BBUF[20];
    this.v2h ^= BBUF[5] ^ BBUF[21];
    this.v3l ^= BBUF[6] ^ BBUF[22];
    this.v3h ^= BBUF[7] ^ BBUF[23];
    this.v4l ^= BBUF[8] ^ BBUF[24];
    this.v4h ^= BBUF[9] ^ BBUF[25];
    this.v5l ^= BBUF[10] ^ BBUF[26];
    this.v5h ^= BBUF[11] ^ BBUF[27];
    this.v6l ^= BBUF[12] ^ BBUF[28];
    this.v6h ^= BBUF[13] ^ BBUF[29];
    this.v7l ^= BBUF[14] ^ BBUF[30];
    this.v7h ^= BBUF[15] ^ BBUF[31];
    clean(BBUF);
  }
  destroy() {
    this.destroyed = true;
    clean(this.buffer32);
    this.set(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  }
};
var blake2b = /* @__PURE__ */ createHasher((opts) => new _BLAKE2b(opts));

// src/codec/verify/sodium-shim.ts
import { createDecipheriv, createPublicKey, verify } from "node:crypto";
var spki = Buffer.from("302a300506032b6570032100", "hex");
var smallOrder = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
];
var isSmallOrder = (point) => {
  const copy = Buffer.from(point);
  copy[31] = (copy[31] ?? 0) & 127;
  return smallOrder.includes(copy.toString("hex"));
};
var chunked = (out, inputs, key) => {
  const hash2 = blake2b.create(key === void 0 ? { dkLen: out.byteLength } : { dkLen: out.byteLength, key });
  for (const input of inputs) hash2.update(input);
  out.set(hash2.digest());
};
var sodium_shim_default = {
  crypto_generichash: (out, input, key) => chunked(out, [input], key),
  crypto_generichash_batch: chunked,
  crypto_sign_verify_detached: (signature, message, publicKey) => {
    if (isSmallOrder(publicKey) || isSmallOrder(signature.subarray(0, 32))) return false;
    try {
      return verify(null, message, createPublicKey({ key: Buffer.concat([spki, publicKey]), format: "der", type: "spki" }), signature);
    } catch {
      return false;
    }
  },
  /** Throws when the tag does not fit, as sodium-native does. */
  crypto_aead_xchacha20poly1305_ietf_decrypt: (out, _nsec, cipher, ad, nonce, key) => {
    const iv = Buffer.concat([Buffer.alloc(4), nonce.subarray(16, 24)]);
    const opener = createDecipheriv("chacha20-poly1305", hchacha20(key, nonce), iv, { authTagLength: 16 });
    const size = cipher.byteLength - 16;
    if (ad !== null) opener.setAAD(ad, { plaintextLength: size });
    opener.setAuthTag(cipher.subarray(size));
    const plain2 = Buffer.concat([opener.update(cipher.subarray(0, size)), opener.final()]);
    out.set(plain2);
    return plain2.byteLength;
  }
};
var hchacha20 = (key, nonce) => {
  const s = new Uint32Array(16);
  s.set([1634760805, 857760878, 2036477234, 1797285236]);
  for (let i = 0; i < 8; i++) s[4 + i] = key.readUInt32LE(i * 4);
  for (let i = 0; i < 4; i++) s[12 + i] = nonce.readUInt32LE(i * 4);
  const at = (i) => s[i] ?? 0;
  const mix = (a, b, c, d) => {
    s[a] = at(a) + at(b);
    s[d] = rotate(at(d) ^ at(a), 16);
    s[c] = at(c) + at(d);
    s[b] = rotate(at(b) ^ at(c), 12);
    s[a] = at(a) + at(b);
    s[d] = rotate(at(d) ^ at(a), 8);
    s[c] = at(c) + at(d);
    s[b] = rotate(at(b) ^ at(c), 7);
  };
  for (let round = 0; round < 10; round++) {
    mix(0, 4, 8, 12);
    mix(1, 5, 9, 13);
    mix(2, 6, 10, 14);
    mix(3, 7, 11, 15);
    mix(0, 5, 10, 15);
    mix(1, 6, 11, 12);
    mix(2, 7, 8, 13);
    mix(3, 4, 9, 14);
  }
  const out = Buffer.alloc(32);
  for (let i = 0; i < 4; i++) {
    out.writeUInt32LE(at(i), i * 4);
    out.writeUInt32LE(at(12 + i), 16 + i * 4);
  }
  return out;
};
var rotate = (value, bits) => value << bits | value >>> 32 - bits;

// node_modules/fzstd/esm/index.mjs
var ab = ArrayBuffer;
var u8 = Uint8Array;
var u16 = Uint16Array;
var i16 = Int16Array;
var i32 = Int32Array;
var slc = function(v, s, e) {
  if (u8.prototype.slice)
    return u8.prototype.slice.call(v, s, e);
  if (s == null || s < 0)
    s = 0;
  if (e == null || e > v.length)
    e = v.length;
  var n = new u8(e - s);
  n.set(v.subarray(s, e));
  return n;
};
var fill = function(v, n, s, e) {
  if (u8.prototype.fill)
    return u8.prototype.fill.call(v, n, s, e);
  if (s == null || s < 0)
    s = 0;
  if (e == null || e > v.length)
    e = v.length;
  for (; s < e; ++s)
    v[s] = n;
  return v;
};
var cpw = function(v, t, s, e) {
  if (u8.prototype.copyWithin)
    return u8.prototype.copyWithin.call(v, t, s, e);
  if (s == null || s < 0)
    s = 0;
  if (e == null || e > v.length)
    e = v.length;
  while (s < e) {
    v[t++] = v[s++];
  }
};
var ec = [
  "invalid zstd data",
  "window size too large (>2046MB)",
  "invalid block type",
  "FSE accuracy too high",
  "match distance too far back",
  "unexpected EOF"
];
var err = function(ind, msg, nt) {
  var e = new Error(msg || ec[ind]);
  e.code = ind;
  if (Error.captureStackTrace)
    Error.captureStackTrace(e, err);
  if (!nt)
    throw e;
  return e;
};
var rb = function(d, b, n) {
  var i = 0, o = 0;
  for (; i < n; ++i)
    o |= d[b++] << (i << 3);
  return o;
};
var b4 = function(d, b) {
  return (d[b] | d[b + 1] << 8 | d[b + 2] << 16 | d[b + 3] << 24) >>> 0;
};
var rzfh = function(dat, w) {
  var n3 = dat[0] | dat[1] << 8 | dat[2] << 16;
  if (n3 == 3126568 && dat[3] == 253) {
    var flg = dat[4];
    var ss = flg >> 5 & 1, cc = flg >> 2 & 1, df = flg & 3, fcf = flg >> 6;
    if (flg & 8)
      err(0);
    var bt = 6 - ss;
    var db = df == 3 ? 4 : df;
    var di = rb(dat, bt, db);
    bt += db;
    var fsb = fcf ? 1 << fcf : ss;
    var fss = rb(dat, bt, fsb) + (fcf == 1 && 256);
    var ws = fss;
    if (!ss) {
      var wb = 1 << 10 + (dat[5] >> 3);
      ws = wb + (wb >> 3) * (dat[5] & 7);
    }
    if (ws > 2145386496)
      err(1);
    var buf = new u8((w == 1 ? fss || ws : w ? 0 : ws) + 12);
    buf[0] = 1, buf[4] = 4, buf[8] = 8;
    return {
      b: bt + fsb,
      y: 0,
      l: 0,
      d: di,
      w: w && w != 1 ? w : buf.subarray(12),
      e: ws,
      o: new i32(buf.buffer, 0, 3),
      u: fss,
      c: cc,
      m: Math.min(131072, ws)
    };
  } else if ((n3 >> 4 | dat[3] << 20) == 25481893) {
    return b4(dat, 4) + 8;
  }
  err(0);
};
var msb = function(val) {
  var bits = 0;
  for (; 1 << bits <= val; ++bits)
    ;
  return bits - 1;
};
var rfse = function(dat, bt, mal) {
  var tpos = (bt << 3) + 4;
  var al = (dat[bt] & 15) + 5;
  if (al > mal)
    err(3);
  var sz = 1 << al;
  var probs = sz, sym = -1, re = -1, i = -1, ht = sz;
  var buf = new ab(512 + (sz << 2));
  var freq = new i16(buf, 0, 256);
  var dstate = new u16(buf, 0, 256);
  var nstate = new u16(buf, 512, sz);
  var bb1 = 512 + (sz << 1);
  var syms = new u8(buf, bb1, sz);
  var nbits = new u8(buf, bb1 + sz);
  while (sym < 255 && probs > 0) {
    var bits = msb(probs + 1);
    var cbt = tpos >> 3;
    var msk = (1 << bits + 1) - 1;
    var val = (dat[cbt] | dat[cbt + 1] << 8 | dat[cbt + 2] << 16) >> (tpos & 7) & msk;
    var msk1fb = (1 << bits) - 1;
    var msv = msk - probs - 1;
    var sval = val & msk1fb;
    if (sval < msv)
      tpos += bits, val = sval;
    else {
      tpos += bits + 1;
      if (val > msk1fb)
        val -= msv;
    }
    freq[++sym] = --val;
    if (val == -1) {
      probs += val;
      syms[--ht] = sym;
    } else
      probs -= val;
    if (!val) {
      do {
        var rbt = tpos >> 3;
        re = (dat[rbt] | dat[rbt + 1] << 8) >> (tpos & 7) & 3;
        tpos += 2;
        sym += re;
      } while (re == 3);
    }
  }
  if (sym > 255 || probs)
    err(0);
  var sympos = 0;
  var sstep = (sz >> 1) + (sz >> 3) + 3;
  var smask = sz - 1;
  for (var s = 0; s <= sym; ++s) {
    var sf = freq[s];
    if (sf < 1) {
      dstate[s] = -sf;
      continue;
    }
    for (i = 0; i < sf; ++i) {
      syms[sympos] = s;
      do {
        sympos = sympos + sstep & smask;
      } while (sympos >= ht);
    }
  }
  if (sympos)
    err(0);
  for (i = 0; i < sz; ++i) {
    var ns = dstate[syms[i]]++;
    var nb = nbits[i] = al - msb(ns);
    nstate[i] = (ns << nb) - sz;
  }
  return [tpos + 7 >> 3, {
    b: al,
    s: syms,
    n: nbits,
    t: nstate
  }];
};
var rhu = function(dat, bt) {
  var i = 0, wc = -1;
  var buf = new u8(292), hb = dat[bt];
  var hw = buf.subarray(0, 256);
  var rc = buf.subarray(256, 268);
  var ri = new u16(buf.buffer, 268);
  if (hb < 128) {
    var _a = rfse(dat, bt + 1, 6), ebt = _a[0], fdt = _a[1];
    bt += hb;
    var epos = ebt << 3;
    var lb = dat[bt];
    if (!lb)
      err(0);
    var st1 = 0, st2 = 0, btr1 = fdt.b, btr2 = btr1;
    var fpos = (++bt << 3) - 8 + msb(lb);
    for (; ; ) {
      fpos -= btr1;
      if (fpos < epos)
        break;
      var cbt = fpos >> 3;
      st1 += (dat[cbt] | dat[cbt + 1] << 8) >> (fpos & 7) & (1 << btr1) - 1;
      hw[++wc] = fdt.s[st1];
      fpos -= btr2;
      if (fpos < epos)
        break;
      cbt = fpos >> 3;
      st2 += (dat[cbt] | dat[cbt + 1] << 8) >> (fpos & 7) & (1 << btr2) - 1;
      hw[++wc] = fdt.s[st2];
      btr1 = fdt.n[st1];
      st1 = fdt.t[st1];
      btr2 = fdt.n[st2];
      st2 = fdt.t[st2];
    }
    if (++wc > 255)
      err(0);
  } else {
    wc = hb - 127;
    for (; i < wc; i += 2) {
      var byte = dat[++bt];
      hw[i] = byte >> 4;
      hw[i + 1] = byte & 15;
    }
    ++bt;
  }
  var wes = 0;
  for (i = 0; i < wc; ++i) {
    var wt = hw[i];
    if (wt > 11)
      err(0);
    wes += wt && 1 << wt - 1;
  }
  var mb = msb(wes) + 1;
  var ts = 1 << mb;
  var rem = ts - wes;
  if (rem & rem - 1)
    err(0);
  hw[wc++] = msb(rem) + 1;
  for (i = 0; i < wc; ++i) {
    var wt = hw[i];
    ++rc[hw[i] = wt && mb + 1 - wt];
  }
  var hbuf = new u8(ts << 1);
  var syms = hbuf.subarray(0, ts), nb = hbuf.subarray(ts);
  ri[mb] = 0;
  for (i = mb; i > 0; --i) {
    var pv = ri[i];
    fill(nb, i, pv, ri[i - 1] = pv + rc[i] * (1 << mb - i));
  }
  if (ri[0] != ts)
    err(0);
  for (i = 0; i < wc; ++i) {
    var bits = hw[i];
    if (bits) {
      var code = ri[bits];
      fill(syms, i, code, ri[bits] = code + (1 << mb - bits));
    }
  }
  return [bt, {
    n: nb,
    b: mb,
    s: syms
  }];
};
var dllt = rfse(/* @__PURE__ */ new u8([
  81,
  16,
  99,
  140,
  49,
  198,
  24,
  99,
  12,
  33,
  196,
  24,
  99,
  102,
  102,
  134,
  70,
  146,
  4
]), 0, 6)[1];
var dmlt = rfse(/* @__PURE__ */ new u8([
  33,
  20,
  196,
  24,
  99,
  140,
  33,
  132,
  16,
  66,
  8,
  33,
  132,
  16,
  66,
  8,
  33,
  68,
  68,
  68,
  68,
  68,
  68,
  68,
  68,
  36,
  9
]), 0, 6)[1];
var doct = rfse(/* @__PURE__ */ new u8([
  32,
  132,
  16,
  66,
  102,
  70,
  68,
  68,
  68,
  68,
  36,
  73,
  2
]), 0, 5)[1];
var b2bl = function(b, s) {
  var len = b.length, bl = new i32(len);
  for (var i = 0; i < len; ++i) {
    bl[i] = s;
    s += 1 << b[i];
  }
  return bl;
};
var llb = /* @__PURE__ */ new u8((/* @__PURE__ */ new i32([
  0,
  0,
  0,
  0,
  16843009,
  50528770,
  134678020,
  202050057,
  269422093
])).buffer, 0, 36);
var llbl = /* @__PURE__ */ b2bl(llb, 0);
var mlb = /* @__PURE__ */ new u8((/* @__PURE__ */ new i32([
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  16843009,
  50528770,
  117769220,
  185207048,
  252579084,
  16
])).buffer, 0, 53);
var mlbl = /* @__PURE__ */ b2bl(mlb, 3);
var dhu = function(dat, out, hu) {
  var len = dat.length, ss = out.length, lb = dat[len - 1], msk = (1 << hu.b) - 1, eb = -hu.b;
  if (!lb)
    err(0);
  var st = 0, btr = hu.b, pos = (len << 3) - 8 + msb(lb) - btr, i = -1;
  for (; pos > eb && i < ss; ) {
    var cbt = pos >> 3;
    var val = (dat[cbt] | dat[cbt + 1] << 8 | dat[cbt + 2] << 16) >> (pos & 7);
    st = (st << btr | val) & msk;
    out[++i] = hu.s[st];
    pos -= btr = hu.n[st];
  }
  if (pos != eb || i + 1 != ss)
    err(0);
};
var dhu4 = function(dat, out, hu) {
  var bt = 6;
  var ss = out.length, sz1 = ss + 3 >> 2, sz2 = sz1 << 1, sz3 = sz1 + sz2;
  dhu(dat.subarray(bt, bt += dat[0] | dat[1] << 8), out.subarray(0, sz1), hu);
  dhu(dat.subarray(bt, bt += dat[2] | dat[3] << 8), out.subarray(sz1, sz2), hu);
  dhu(dat.subarray(bt, bt += dat[4] | dat[5] << 8), out.subarray(sz2, sz3), hu);
  dhu(dat.subarray(bt), out.subarray(sz3), hu);
};
var rzb = function(dat, st, out) {
  var _a;
  var bt = st.b;
  var b0 = dat[bt], btype = b0 >> 1 & 3;
  st.l = b0 & 1;
  var sz = b0 >> 3 | dat[bt + 1] << 5 | dat[bt + 2] << 13;
  var ebt = (bt += 3) + sz;
  if (btype == 1) {
    if (bt >= dat.length)
      return;
    st.b = bt + 1;
    if (out) {
      fill(out, dat[bt], st.y, st.y += sz);
      return out;
    }
    return fill(new u8(sz), dat[bt]);
  }
  if (ebt > dat.length)
    return;
  if (btype == 0) {
    st.b = ebt;
    if (out) {
      out.set(dat.subarray(bt, ebt), st.y);
      st.y += sz;
      return out;
    }
    return slc(dat, bt, ebt);
  }
  if (btype == 2) {
    var b3 = dat[bt], lbt = b3 & 3, sf = b3 >> 2 & 3;
    var lss = b3 >> 4, lcs = 0, s4 = 0;
    if (lbt < 2) {
      if (sf & 1)
        lss |= dat[++bt] << 4 | (sf & 2 && dat[++bt] << 12);
      else
        lss = b3 >> 3;
    } else {
      s4 = sf;
      if (sf < 2)
        lss |= (dat[++bt] & 63) << 4, lcs = dat[bt] >> 6 | dat[++bt] << 2;
      else if (sf == 2)
        lss |= dat[++bt] << 4 | (dat[++bt] & 3) << 12, lcs = dat[bt] >> 2 | dat[++bt] << 6;
      else
        lss |= dat[++bt] << 4 | (dat[++bt] & 63) << 12, lcs = dat[bt] >> 6 | dat[++bt] << 2 | dat[++bt] << 10;
    }
    ++bt;
    var buf = out ? out.subarray(st.y, st.y + st.m) : new u8(st.m);
    var spl = buf.length - lss;
    if (lbt == 0)
      buf.set(dat.subarray(bt, bt += lss), spl);
    else if (lbt == 1)
      fill(buf, dat[bt++], spl);
    else {
      var hu = st.h;
      if (lbt == 2) {
        var hud = rhu(dat, bt);
        lcs += bt - (bt = hud[0]);
        st.h = hu = hud[1];
      } else if (!hu)
        err(0);
      (s4 ? dhu4 : dhu)(dat.subarray(bt, bt += lcs), buf.subarray(spl), hu);
    }
    var ns = dat[bt++];
    if (ns) {
      if (ns == 255)
        ns = (dat[bt++] | dat[bt++] << 8) + 32512;
      else if (ns > 127)
        ns = ns - 128 << 8 | dat[bt++];
      var scm = dat[bt++];
      if (scm & 3)
        err(0);
      var dts = [dmlt, doct, dllt];
      for (var i = 2; i > -1; --i) {
        var md = scm >> (i << 1) + 2 & 3;
        if (md == 1) {
          var rbuf = new u8([0, 0, dat[bt++]]);
          dts[i] = {
            s: rbuf.subarray(2, 3),
            n: rbuf.subarray(0, 1),
            t: new u16(rbuf.buffer, 0, 1),
            b: 0
          };
        } else if (md == 2) {
          _a = rfse(dat, bt, 9 - (i & 1)), bt = _a[0], dts[i] = _a[1];
        } else if (md == 3) {
          if (!st.t)
            err(0);
          dts[i] = st.t[i];
        }
      }
      var _b = st.t = dts, mlt = _b[0], oct = _b[1], llt = _b[2];
      var lb = dat[ebt - 1];
      if (!lb)
        err(0);
      var spos = (ebt << 3) - 8 + msb(lb) - llt.b, cbt = spos >> 3, oubt = 0;
      var lst = (dat[cbt] | dat[cbt + 1] << 8) >> (spos & 7) & (1 << llt.b) - 1;
      cbt = (spos -= oct.b) >> 3;
      var ost = (dat[cbt] | dat[cbt + 1] << 8) >> (spos & 7) & (1 << oct.b) - 1;
      cbt = (spos -= mlt.b) >> 3;
      var mst = (dat[cbt] | dat[cbt + 1] << 8) >> (spos & 7) & (1 << mlt.b) - 1;
      for (++ns; --ns; ) {
        var llc = llt.s[lst];
        var lbtr = llt.n[lst];
        var mlc = mlt.s[mst];
        var mbtr = mlt.n[mst];
        var ofc = oct.s[ost];
        var obtr = oct.n[ost];
        cbt = (spos -= ofc) >> 3;
        var ofp = 1 << ofc;
        var off = ofp + ((dat[cbt] | dat[cbt + 1] << 8 | dat[cbt + 2] << 16 | dat[cbt + 3] << 24) >>> (spos & 7) & ofp - 1);
        cbt = (spos -= mlb[mlc]) >> 3;
        var ml = mlbl[mlc] + ((dat[cbt] | dat[cbt + 1] << 8 | dat[cbt + 2] << 16) >> (spos & 7) & (1 << mlb[mlc]) - 1);
        cbt = (spos -= llb[llc]) >> 3;
        var ll = llbl[llc] + ((dat[cbt] | dat[cbt + 1] << 8 | dat[cbt + 2] << 16) >> (spos & 7) & (1 << llb[llc]) - 1);
        cbt = (spos -= lbtr) >> 3;
        lst = llt.t[lst] + ((dat[cbt] | dat[cbt + 1] << 8) >> (spos & 7) & (1 << lbtr) - 1);
        cbt = (spos -= mbtr) >> 3;
        mst = mlt.t[mst] + ((dat[cbt] | dat[cbt + 1] << 8) >> (spos & 7) & (1 << mbtr) - 1);
        cbt = (spos -= obtr) >> 3;
        ost = oct.t[ost] + ((dat[cbt] | dat[cbt + 1] << 8) >> (spos & 7) & (1 << obtr) - 1);
        if (off > 3) {
          st.o[2] = st.o[1];
          st.o[1] = st.o[0];
          st.o[0] = off -= 3;
        } else {
          var idx = off - (ll != 0);
          if (idx) {
            off = idx == 3 ? st.o[0] - 1 : st.o[idx];
            if (idx > 1)
              st.o[2] = st.o[1];
            st.o[1] = st.o[0];
            st.o[0] = off;
          } else
            off = st.o[0];
        }
        for (var i = 0; i < ll; ++i) {
          buf[oubt + i] = buf[spl + i];
        }
        oubt += ll, spl += ll;
        var stin = oubt - off;
        if (stin < 0) {
          var len = -stin;
          var bs = st.e + stin;
          if (len > ml)
            len = ml;
          for (var i = 0; i < len; ++i) {
            buf[oubt + i] = st.w[bs + i];
          }
          oubt += len, ml -= len, stin = 0;
        }
        for (var i = 0; i < ml; ++i) {
          buf[oubt + i] = buf[stin + i];
        }
        oubt += ml;
      }
      if (oubt != spl) {
        while (spl < buf.length) {
          buf[oubt++] = buf[spl++];
        }
      } else
        oubt = buf.length;
      if (out)
        st.y += oubt;
      else
        buf = slc(buf, 0, oubt);
    } else if (out) {
      st.y += lss;
      if (spl) {
        for (var i = 0; i < lss; ++i) {
          buf[i] = buf[spl + i];
        }
      }
    } else if (spl)
      buf = slc(buf, spl);
    st.b = ebt;
    return buf;
  }
  err(2);
};
var cct = function(bufs, ol) {
  if (bufs.length == 1)
    return bufs[0];
  var buf = new u8(ol);
  for (var i = 0, b = 0; i < bufs.length; ++i) {
    var chk = bufs[i];
    buf.set(chk, b);
    b += chk.length;
  }
  return buf;
};
var Decompress = /* @__PURE__ */ (function() {
  function Decompress2(ondata) {
    this.ondata = ondata;
    this.c = [];
    this.l = 0;
    this.z = 0;
  }
  Decompress2.prototype.push = function(chunk, final) {
    if (typeof this.s == "number") {
      var sub = Math.min(chunk.length, this.s);
      chunk = chunk.subarray(sub);
      this.s -= sub;
    }
    var sl = chunk.length;
    var ncs = sl + this.l;
    if (!this.s) {
      if (final) {
        if (!ncs) {
          this.ondata(new u8(0), true);
          return;
        }
        if (ncs < 5)
          err(5);
      } else if (ncs < 18) {
        this.c.push(chunk);
        this.l = ncs;
        return;
      }
      if (this.l) {
        this.c.push(chunk);
        chunk = cct(this.c, ncs);
        this.c = [];
        this.l = 0;
      }
      if (typeof (this.s = rzfh(chunk)) == "number")
        return this.push(chunk, final);
    }
    if (typeof this.s != "number") {
      if (ncs < (this.z || 3)) {
        if (final)
          err(5);
        this.c.push(chunk);
        this.l = ncs;
        return;
      }
      if (this.l) {
        this.c.push(chunk);
        chunk = cct(this.c, ncs);
        this.c = [];
        this.l = 0;
      }
      if (!this.z && ncs < (this.z = chunk[this.s.b] & 2 ? 4 : 3 + (chunk[this.s.b] >> 3 | chunk[this.s.b + 1] << 5 | chunk[this.s.b + 2] << 13))) {
        if (final)
          err(5);
        this.c.push(chunk);
        this.l = ncs;
        return;
      } else
        this.z = 0;
      for (; ; ) {
        var blk = rzb(chunk, this.s);
        if (!blk) {
          if (final)
            err(5);
          var adc = chunk.subarray(this.s.b);
          this.s.b = 0;
          this.c.push(adc), this.l += adc.length;
          return;
        } else {
          this.ondata(blk, false);
          cpw(this.s.w, 0, blk.length);
          this.s.w.set(blk, this.s.w.length - blk.length);
        }
        if (this.s.l) {
          var rest = chunk.subarray(this.s.b);
          this.s = this.s.c * 4;
          this.push(rest, final);
          return;
        }
      }
    } else if (final)
      err(5);
  };
  return Decompress2;
})();

// src/codec/verify/zlib-shim.ts
import * as native from "zlib";
var constants2 = native.constants;
var zstdDecompressSync2 = (bytes, { maxOutputLength }) => typeof native.zstdDecompressSync === "function" ? native.zstdDecompressSync(bytes, { maxOutputLength }) : unpack(bytes, maxOutputLength);
var unpack = (bytes, lengthMax) => {
  const pieces = [];
  let length = 0;
  const stream = new Decompress((piece) => {
    length += piece.byteLength;
    if (length > lengthMax) throw new Error(`more than ${lengthMax} bytes`);
    pieces.push(piece.slice());
  });
  stream.push(bytes, true);
  return Buffer.concat(pieces);
};

// src/codec/uuid.ts
var uuidText = (bytes) => {
  const hex = Buffer.from(bytes).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
};
var isUuidv7 = (text2) => /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(text2);

// src/codec/envelope.ts
var causeCountMax = 16;
var typePattern = /^[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)+\/[1-9][0-9]{0,3}$/;
var actorPattern = /^(device|(agent|person):[^\u0000-\u001f\u007f]{1,64})$/;
var subjectPattern = /^[^\u0000-\u001f\u007f]{0,256}$/;
var isEventType = (text2) => text2.length <= 96 && typePattern.test(text2);
var isActor = (text2) => actorPattern.test(text2);
var envelopeFromWire = (wire, log) => {
  if (!Array.isArray(wire) || wire.length < 8) return bad("not an array of eight");
  const [type, ms, count, actor, subject, command, cause, body] = wire;
  if (typeof type !== "string" || !isEventType(type)) return bad("type");
  if (!isStamp(ms, count)) return bad("time stamp");
  if (typeof actor !== "string" || !isActor(actor)) return bad("actor");
  if (typeof subject !== "string" || !subjectPattern.test(subject)) return bad("subject");
  let commandText = "";
  if (command !== null) {
    if (!(command instanceof Uint8Array) || command.byteLength !== 16) return bad("command id");
    commandText = uuidText(command);
    if (!isUuidv7(commandText)) return bad("command id");
  }
  if (!Array.isArray(cause) || cause.length > causeCountMax) return bad("cause");
  const causes = [];
  for (const entry of cause) {
    if (!Array.isArray(entry) || entry.length !== 3) return bad("cause");
    const [key, block, offset] = entry;
    if (key !== null && !(key instanceof Uint8Array && key.byteLength === 32)) return bad("cause");
    if (!Number.isSafeInteger(block) || block < 0 || !Number.isSafeInteger(offset) || offset < 0) return bad("cause");
    causes.push({ log: key === null ? log : toHex(key), block, offset });
  }
  return Result.succeed({
    type,
    at: { ms, count },
    actor,
    subject,
    command: commandText,
    cause: causes,
    body
  });
};
var bad = (why) => Result.fail(new Malformed({ what: "envelope", why }));

// src/codec/hash.ts
var hashParts = (label, ...parts) => {
  const out = Buffer.allocUnsafeSlow(32);
  const list = [];
  for (const part of [utf8(label), ...parts]) {
    const size = Buffer.allocUnsafe(4);
    size.writeUInt32BE(part.byteLength);
    list.push(size, asBuffer(part));
  }
  sodium_shim_default.crypto_generichash_batch(out, list);
  return out;
};
var asBuffer = (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

// src/codec/signature.ts
var verify2 = (message, signature, publicKey) => signature.byteLength === 64 && publicKey.byteLength === 32 && sodium_shim_default.crypto_sign_verify_detached(asBuffer(signature), asBuffer(message), asBuffer(publicKey));

// src/codec/frame.ts
var frameVersion = 1;
var frameEventsMax = 256;
var frameGatherBytesMax = 64 * 1024;
var eventBytesMax = 320 * 1024;
var frameBytesMax = 1024 * 1024;
var nonceBytes = 24;
var commitmentBytes = 32;
var headerBytes = 1 + 4 + nonceBytes + commitmentBytes;
var tagBytes = 16;
var plain = 0;
var zstd = 1;
var frameHeader = (block) => {
  if (block.byteLength < headerBytes + tagBytes + 2) return bad2("too short");
  if (block.byteLength > frameBytesMax) return bad2(`larger than ${frameBytesMax} bytes`);
  const view = asBuffer(block);
  return Result.succeed({ version: view.readUInt8(0), epoch: view.readUInt32BE(1), nonce: view.subarray(5, 5 + nonceBytes) });
};
var openFrame = (block, place, key) => {
  const header = frameHeader(block);
  if (Result.isFailure(header)) return Result.fail(header.failure);
  if (header.success.version !== frameVersion) return bad2(`version ${header.success.version} is not known here`);
  const sealed = asBuffer(block);
  if (Buffer.compare(sealed.subarray(5 + nonceBytes, headerBytes), commitment(key)) !== 0) return bad2("it is not committed to this key");
  const content = Buffer.allocUnsafe(sealed.byteLength - headerBytes - tagBytes);
  try {
    sodium_shim_default.crypto_aead_xchacha20poly1305_ietf_decrypt(
      content,
      null,
      sealed.subarray(headerBytes),
      associated(sealed.subarray(0, headerBytes), place),
      asBuffer(header.success.nonce),
      asBuffer(key)
    );
  } catch {
    return bad2("it does not open with this key at this place");
  }
  const cbor = unpack2(content);
  if (Result.isFailure(cbor)) return Result.fail(cbor.failure);
  const wire = decodeCbor("frame", cbor.success);
  if (Result.isFailure(wire)) return Result.fail(wire.failure);
  if (!Array.isArray(wire.success)) return bad2("not an array of events");
  const list = wire.success;
  if (list.length === 0 || list.length > frameEventsMax) return bad2(`${list.length} events`);
  const events = [];
  for (const entry of list) {
    const event = envelopeFromWire(entry, place.log);
    if (Result.isFailure(event)) return Result.fail(event.failure);
    events.push(event.success);
  }
  return Result.succeed(events);
};
var commitment = (key) => hashParts("kos/frame-commit/1", key);
var zstdOptions = { params: { [constants2.ZSTD_c_compressionLevel]: 1 } };
var unpack2 = (content) => {
  const body = content.subarray(1);
  if (content[0] === plain) return Result.succeed(body);
  if (content[0] !== zstd) return bad2(`packing ${content[0]} is not known here`);
  try {
    return Result.succeed(zstdDecompressSync2(body, { maxOutputLength: frameBytesMax }));
  } catch {
    return bad2(`its zstd content is broken or larger than ${frameBytesMax} bytes`);
  }
};
var associated = (header, place) => Buffer.concat([header, Buffer.from(place.log, "hex"), blockIndex(place.block)]);
var blockIndex = (block) => {
  const out = Buffer.alloc(8);
  out.writeBigUInt64BE(BigInt(block));
  return out;
};
var bad2 = (why) => Result.fail(new Malformed({ what: "frame", why }));

// src/codec/membership/graph.ts
var operationsMax = 2e4;
var waitingMax = 1e4;
var knew = (later, earlier) => {
  const word = later.past[earlier.number >>> 5];
  return word !== void 0 && (word & 1 << (earlier.number & 31)) !== 0;
};
var concurrent = (a, b) => a !== b && !knew(a, b) && !knew(b, a);
var byOrder = (a, b) => a.depth - b.depth || (a.operation.hash < b.operation.hash ? -1 : a.operation.hash > b.operation.hash ? 1 : 0);
var makeGraph = (mesh) => {
  const vertices = [];
  const byHash = /* @__PURE__ */ new Map();
  const heads = /* @__PURE__ */ new Set();
  const waiting = /* @__PURE__ */ new Map();
  const waitingFor = /* @__PURE__ */ new Map();
  const missing = (operation) => operation.parents.find((parent) => !byHash.has(parent));
  const wait = (operation, parent) => {
    waiting.set(operation.hash, operation);
    const others = waitingFor.get(parent);
    if (others === void 0) waitingFor.set(parent, /* @__PURE__ */ new Set([operation.hash]));
    else others.add(operation.hash);
  };
  const insert = (operation) => {
    const number = vertices.length;
    const past = new Uint32Array(number + 31 >>> 5);
    let depth = 0;
    for (const hash2 of operation.parents) {
      const parent = byHash.get(hash2);
      if (parent === void 0) throw new Error(`parent ${hash2} of ${operation.hash} is not in the graph`);
      depth = Math.max(depth, parent.depth + 1);
      for (let i = 0; i < parent.past.length; i++) past[i] = (past[i] ?? 0) | (parent.past[i] ?? 0);
      past[parent.number >>> 5] = (past[parent.number >>> 5] ?? 0) | 1 << (parent.number & 31);
      heads.delete(parent);
    }
    const vertex = { operation, number, depth, past };
    vertices.push(vertex);
    byHash.set(operation.hash, vertex);
    heads.add(vertex);
    return vertex;
  };
  const enter = (operation) => {
    const first = operation.says.kind === "mesh.created";
    if ((first ? operation.hash : operation.mesh) !== mesh) return { _tag: "Refused", why: "it belongs to another mesh" };
    if (byHash.has(operation.hash)) return { _tag: "Known" };
    if (waiting.has(operation.hash)) return { _tag: "Known" };
    if (vertices.length + waiting.size >= operationsMax) return { _tag: "Refused", why: `the mesh has ${operationsMax} operations already` };
    const parent = missing(operation);
    if (parent !== void 0) {
      if (waiting.size >= waitingMax) return { _tag: "Refused", why: `${waitingMax} operations wait for their parents already` };
      wait(operation, parent);
      return { _tag: "Waiting" };
    }
    const entered = [insert(operation)];
    for (let i = 0; i < entered.length; i++) {
      const hash2 = entered[i]?.operation.hash ?? "";
      const ready = waitingFor.get(hash2);
      waitingFor.delete(hash2);
      for (const child of ready ?? []) {
        const candidate = waiting.get(child);
        if (candidate === void 0) continue;
        waiting.delete(child);
        const next = missing(candidate);
        if (next === void 0) entered.push(insert(candidate));
        else wait(candidate, next);
      }
    }
    return { _tag: "Entered", vertices: entered };
  };
  return {
    enter,
    vertices,
    has: (hash2) => byHash.has(hash2),
    waiting: () => waiting.size,
    heads: () => [...heads].sort((a, b) => b.depth - a.depth || byOrder(a, b)).map((vertex) => vertex.operation.hash),
    vertex: (hash2) => byHash.get(hash2)
  };
};

// src/codec/verify/merkle.ts
var manifestBytes = 70;
var hash = (...parts) => {
  const out = Buffer.allocUnsafeSlow(32);
  sodium_shim_default.crypto_generichash_batch(out, parts.map(asBuffer));
  return out;
};
var namespace = (number) => hash(hash(utf8("hypercore")), Uint8Array.of(number));
var treeNamespace = namespace(0);
var manifestNamespace = namespace(3);
var signerNamespace = namespace(4);
var leafNode = (block) => ({ size: block.byteLength, hash: hash(Uint8Array.of(0), u64(block.byteLength), block) });
var parentNode = (left, right) => ({ size: left.size + right.size, hash: hash(Uint8Array.of(1), u64(left.size + right.size), left.hash, right.hash) });
var treeHash = (length, roots) => hash(Uint8Array.of(2), ...rootPlaces(length).flatMap((place, i) => {
  const root = roots[i];
  return root === void 0 ? [] : [root.hash, u64(place.node), u64(root.size)];
}));
var rootPlaces = (length) => {
  const out = [];
  let first = 0;
  while (first < length) {
    const count = 2 ** Math.floor(Math.log2(length - first));
    out.push({ node: 2 * first + count - 1, first, count });
    first += count;
  }
  return out;
};
var climb = (block, leaf, path) => {
  let node = leaf;
  let position = block;
  for (const sister of path) {
    node = position % 2 === 0 ? parentNode(node, sister) : parentNode(sister, node);
    position = Math.floor(position / 2);
  }
  return node;
};
var treeSignable = (log, tree, length, fork) => Buffer.concat([treeNamespace, log, tree, u64(length), u64(fork)]);
var manifestOf = (signer) => Buffer.concat([Buffer.of(1, 0, 0, 1, 1, 0), signerNamespace, signer]);
var signerOf = (manifest) => {
  const signer = manifest.subarray(manifestBytes - 32);
  return manifest.byteLength === manifestBytes && Buffer.compare(manifestOf(signer), manifest) === 0 ? signer : void 0;
};
var logKeyOf = (manifest) => hash(manifestNamespace, manifest);
var u64 = (value) => {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(value));
  return out;
};

// src/codec/operation.ts
var operationVersion = 1;
var operationBytesMax = 16 * 1024;
var operationParentsMax = 16;
var inviteUsesMax = 1e3;
var cutoffsMax = 128;
var sealedKeysMax = 96;
var sealedKeyBytes = 80;
var epochMax = 4294967295;
var thresholdMax = 16;
var reasonLengthMax = 256;
var meshNameLengthMax = 64;
var nodeNameLengthMax = 63;
var roles = ["owner", "admin", "member", "reader", "seeder"];
var rankOf = (role) => roles.length - roles.indexOf(role);
var nodeName = /^[\p{L}\p{N}][\p{L}\p{N}._-]*$/u;
var meshName = /^[^\p{C}\p{Zl}\p{Zp}\s]([^\p{C}\p{Zl}\p{Zp}]*[^\p{C}\p{Zl}\p{Zp}\s])?$/u;
var kindPattern = /^[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)+$/;
var isNodeName = (text2) => typeof text2 === "string" && text2.length <= nodeNameLengthMax && nodeName.test(text2) && text2.normalize("NFC") === text2;
var isMeshName = (text2) => typeof text2 === "string" && text2.length <= meshNameLengthMax && meshName.test(text2) && text2.normalize("NFC") === text2;
var isRole = (value) => roles.some((role) => role === value);
var admissionHash = (mesh, invite, device, log) => hashParts("kos/admission/1", fromHex(mesh), fromHex(invite), fromHex(device), fromHex(log));
var recoveryHash = (mesh, recovery, device, log) => hashParts("kos/recovery/1", fromHex(mesh), fromHex(recovery), fromHex(device), fromHex(log));
var logHeldHash = (mesh, device, log) => hashParts("kos/log-held/1", fromHex(mesh), fromHex(device), fromHex(log));
var operationHash = (content) => toHex(hashParts("kos/operation/1", content));
var openOperation = (bytes) => {
  const decoded = decodeOperation(bytes);
  if (Result.isFailure(decoded)) return decoded;
  const operation = decoded.success;
  if (!verify2(fromHex(operation.hash), bytes.subarray(0, 64), fromHex(operation.author))) return bad3("its signature is not the author's");
  return Result.succeed({ ...operation, proven: isProven(operation), holds: isHeld(operation) });
};
var isProven = ({ mesh, author, says }) => {
  if (says.kind === "recovery.used") return verify2(recoveryHash(mesh, says.recovery, author, says.log), says.proof, fromHex(says.recovery));
  if (says.kind === "member.admitted") return verify2(admissionHash(mesh, says.invite, says.device, says.log), says.proof, fromHex(says.invite));
  return true;
};
var isHeld = ({ mesh, author, says }) => {
  if (says.kind !== "member.admitted" && says.kind !== "recovery.used" && says.kind !== "log.attached" && says.kind !== "log.succeeded") return false;
  const { signer, held } = says;
  const log = says.kind === "log.succeeded" ? says.successor : says.log;
  if (signer === void 0 || held === void 0 || toHex(logKeyOf(manifestOf(signer))) !== log) return false;
  return verify2(logHeldHash(mesh, says.kind === "member.admitted" ? says.device : author, log), held, signer);
};
var decodeOperation = (bytes) => {
  if (bytes.byteLength > operationBytesMax) return bad3(`larger than ${operationBytesMax} bytes`);
  if (bytes.byteLength < 64 + 8) return bad3("too short");
  const own = new Uint8Array(bytes);
  const content = own.subarray(64);
  const wire = decodeCbor("operation", content);
  if (Result.isFailure(wire)) return Result.fail(wire.failure);
  if (!Array.isArray(wire.success) || wire.success.length !== 7) return bad3("not an array of seven");
  const [version, kind, mesh, author, parents, ms, body] = wire.success;
  if (version !== operationVersion) return bad3("its version is not known here");
  if (typeof kind !== "string" || kind.length > 64 || !kindPattern.test(kind)) return bad3("kind");
  const first = kind === "mesh.created";
  const meshHex = key32(mesh);
  if (first ? mesh !== null : meshHex === void 0) return bad3("mesh");
  const authorHex = key32(author);
  if (authorHex === void 0) return bad3("author");
  if (!Array.isArray(parents) || parents.length > operationParentsMax || parents.length === 0 !== first) return bad3("parents");
  const parentsHex = [];
  for (const parent of parents) {
    const hex = key32(parent);
    const last = parentsHex[parentsHex.length - 1];
    if (hex === void 0 || last !== void 0 && hex <= last) return bad3("parents");
    parentsHex.push(hex);
  }
  if (!isCount(ms, stampMsMax)) return bad3("time");
  if (!isRecord(body)) return bad3("body");
  const says = bodyFromWire(kind, body);
  if (says === void 0) return bad3(`body of ${kind}`);
  return Result.succeed({
    mesh: meshHex ?? "",
    author: authorHex,
    parents: parentsHex,
    ms,
    says,
    hash: operationHash(content),
    bytes: own,
    proven: false,
    holds: false
  });
};
var bodyFromWire = (kind, body) => {
  const { name, role } = body;
  const device = key32(body["device"]);
  const log = key32(body["log"]);
  const invite = key32(body["invite"]);
  const held = heldOf(body);
  switch (kind) {
    case "mesh.created": {
      const nonce = bytesOf(body["nonce"], 32);
      return isMeshName(name) && nonce !== void 0 ? { kind, name, nonce } : void 0;
    }
    case "mesh.named":
      return isMeshName(name) ? { kind, name } : void 0;
    case "invite.issued": {
      const { expiresMs, uses } = body;
      const certificate = bytesOf(body["certificate"], 64);
      if (body["certificate"] !== void 0 && certificate === void 0) return void 0;
      return invite !== void 0 && isRole(role) && isCount(expiresMs, stampMsMax) && isCount(uses, inviteUsesMax) && uses > 0 ? { kind, invite, role, expiresMs, uses, ...certificate === void 0 ? {} : { certificate } } : void 0;
    }
    case "invite.withdrawn":
      return invite === void 0 ? void 0 : { kind, invite };
    case "member.admitted": {
      const proof = bytesOf(body["proof"], 64);
      return device !== void 0 && log !== void 0 && isNodeName(name) && isRole(role) && invite !== void 0 && proof !== void 0 && held !== void 0 ? { kind, device, log, name, role, invite, proof, ...held } : void 0;
    }
    case "member.named":
      return device !== void 0 && isNodeName(name) ? { kind, device, name } : void 0;
    case "role.set": {
      const cutoffs = body["cutoffs"] === void 0 ? void 0 : cutoffsOf(body["cutoffs"]);
      if (device === void 0 || !isRole(role) || cutoffs === void 0 && body["cutoffs"] !== void 0) return void 0;
      return cutoffs === void 0 ? { kind, device, role } : { kind, device, role, cutoffs };
    }
    case "log.attached":
      return log === void 0 || held === void 0 ? void 0 : { kind, log, ...held };
    case "log.succeeded": {
      const { length } = body;
      const treeHash2 = key32(body["treeHash"]);
      const successor = key32(body["successor"]);
      return log !== void 0 && isCount(length, Number.MAX_SAFE_INTEGER) && treeHash2 !== void 0 && successor !== void 0 && successor !== log && held !== void 0 ? { kind, log, length, treeHash: treeHash2, successor, ...held } : void 0;
    }
    case "member.left":
      return { kind };
    case "member.revoked": {
      const cutoffs = cutoffsOf(body["cutoffs"]);
      const { reason } = body;
      if (device === void 0 || cutoffs === void 0) return void 0;
      if (reason === void 0) return { kind, device, cutoffs };
      return typeof reason === "string" && reason.length <= reasonLengthMax ? { kind, device, cutoffs, reason } : void 0;
    }
    case "epoch.rotated":
    case "epoch.shared": {
      const { epoch } = body;
      const commit = key32(body["commit"]);
      const sealed = sealedOf(body["sealed"]);
      return isCount(epoch, epochMax) && epoch > 0 && commit !== void 0 && sealed !== void 0 ? { kind, epoch, commit, sealed } : void 0;
    }
    case "owners.threshold": {
      const { threshold } = body;
      return isCount(threshold, thresholdMax) && threshold > 0 ? { kind, threshold } : void 0;
    }
    case "recovery.set": {
      const recovery = key32(body["recovery"]);
      return recovery === void 0 ? void 0 : { kind, recovery };
    }
    case "recovery.used": {
      const recovery = key32(body["recovery"]);
      const proof = bytesOf(body["proof"], 64);
      return log !== void 0 && isNodeName(name) && recovery !== void 0 && proof !== void 0 && held !== void 0 ? { kind, log, name, recovery, proof, ...held } : void 0;
    }
    default:
      return { kind: "kept", name: kind, body };
  }
};
var heldOf = (body) => {
  if (body["signer"] === void 0 && body["held"] === void 0) return {};
  const signer = bytesOf(body["signer"], 32);
  const held = bytesOf(body["held"], 64);
  return signer === void 0 || held === void 0 ? void 0 : { signer, held };
};
var cutoffsOf = (value) => {
  if (!Array.isArray(value) || value.length > cutoffsMax) return void 0;
  const out = [];
  for (const entry of value) {
    if (!Array.isArray(entry) || entry.length !== 2) return void 0;
    const [key, length] = entry;
    const log = key32(key);
    if (log === void 0 || !isCount(length, Number.MAX_SAFE_INTEGER)) return void 0;
    out.push({ log, length });
  }
  return out;
};
var sealedOf = (value) => {
  if (!Array.isArray(value) || value.length > sealedKeysMax) return void 0;
  const out = [];
  for (const entry of value) {
    if (!Array.isArray(entry) || entry.length !== 2) return void 0;
    const [key, bytes] = entry;
    const reader = key32(key);
    const sealed = bytesOf(bytes, sealedKeyBytes);
    if (reader === void 0 || sealed === void 0) return void 0;
    out.push({ reader, sealed });
  }
  return out;
};
var key32 = (value) => value instanceof Uint8Array && value.byteLength === 32 ? toHex(value) : void 0;
var bytesOf = (value, size) => value instanceof Uint8Array && value.byteLength === size ? value : void 0;
var isCount = (value, max) => typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= max;
var isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
var bad3 = (why) => Result.fail(new Malformed({ what: "membership operation", why }));

// src/codec/verify/format.ts
var proofVersion = 1;
var proofBytesMax = 64 * 1024 * 1024;
var proofLogsMax = 1e3;
var proofFramesMax = 2e4;
var logLengthMax = 2 ** 40;
var pathLengthMax = 41;
var magic = utf8("kosproof");
var encodeProof = (file) => {
  const node = ({ size, hash: hash2 }) => [size, hash2];
  const body = Buffer.concat([magic, encodeCbor([
    proofVersion,
    fromHex(file.mesh),
    [...file.operations],
    file.logs.map((log) => [
      log.manifest,
      log.fork,
      log.length,
      log.roots.map(node),
      log.signature,
      log.frames.map((frame) => [frame.block, frame.path.map(node), frame.sealed, frame.key, [...frame.offsets]])
    ])
  ])]);
  return Buffer.concat([body, hashParts("kos/proof/1", body)]);
};
var decodeProof = (bytes) => {
  if (bytes.byteLength > proofBytesMax) return bad4(`larger than ${proofBytesMax} bytes`);
  if (bytes.byteLength < magic.byteLength + 33 || !equalBytes(bytes.subarray(0, magic.byteLength), magic)) return bad4("this is no kOS proof file");
  const body = bytes.subarray(0, bytes.byteLength - 32);
  if (!equalBytes(hashParts("kos/proof/1", body), bytes.subarray(body.byteLength))) return bad4("the file was damaged or cut: its own hash does not fit");
  const content = body.subarray(magic.byteLength);
  const wire = decodeCbor("proof file", content);
  if (Result.isFailure(wire)) return Result.fail(wire.failure);
  if (!Array.isArray(wire.success)) return bad4("not an array");
  const [version, mesh, operations, logs, ...more] = wire.success;
  if (version !== proofVersion) return bad4(`version ${String(version).slice(0, 20)} is not known here; get a newer kos-verify`);
  if (more.length > 0 || !isBytes2(mesh, 32)) return bad4("mesh");
  const operationList = listOf(operations, operationsMax, (one) => one instanceof Uint8Array && one.byteLength <= operationBytesMax ? one : void 0);
  if (operationList === void 0) return bad4("operations");
  const logList = listOf(logs, proofLogsMax, logFromWire);
  if (logList === void 0 || logList.length === 0) return bad4("logs");
  const frames = logList.reduce((sum, log) => sum + log.frames.length, 0);
  if (frames > proofFramesMax) return bad4(`more than ${proofFramesMax} frames`);
  const file = { mesh: toHex(mesh), operations: operationList, logs: logList };
  return equalBytes(encodeProof(file), bytes) ? Result.succeed(file) : bad4("it is not written in the one form of its content");
};
var logFromWire = (value) => {
  if (!Array.isArray(value) || value.length !== 6) return void 0;
  const [manifest, fork, length, roots, signature, frames] = value;
  if (!isBytes2(manifest, manifestBytes) || !isBytes2(signature, 64) || !isCount2(fork) || !isCount2(length) || length === 0 || length > logLengthMax) return void 0;
  const rootList = listOf(roots, pathLengthMax, nodeFromWire);
  const frameList = listOf(frames, proofFramesMax, frameFromWire);
  if (rootList === void 0 || rootList.length !== rootPlaces(length).length || frameList === void 0 || frameList.length === 0) return void 0;
  return { manifest, fork, length, roots: rootList, signature, frames: frameList };
};
var frameFromWire = (value) => {
  if (!Array.isArray(value) || value.length !== 5) return void 0;
  const [block, path, sealed, key, offsets] = value;
  if (!isCount2(block) || !isBytes2(key, 32) || !(sealed instanceof Uint8Array) || sealed.byteLength > frameBytesMax) return void 0;
  const pathList = listOf(path, pathLengthMax, nodeFromWire);
  const offsetList = listOf(offsets, frameEventsMax, (one) => isCount2(one) ? one : void 0);
  if (pathList === void 0 || offsetList === void 0 || offsetList.length === 0) return void 0;
  return { block, path: pathList, sealed, key, offsets: offsetList };
};
var nodeFromWire = (value) => {
  if (!Array.isArray(value) || value.length !== 2) return void 0;
  const [size, hash2] = value;
  return isCount2(size) && isBytes2(hash2, 32) ? { size, hash: hash2 } : void 0;
};
var listOf = (value, max, read) => {
  if (!Array.isArray(value) || value.length > max) return void 0;
  const out = [];
  for (const one of value) {
    const item = read(one);
    if (item === void 0) return void 0;
    out.push(item);
  }
  return out;
};
var isBytes2 = (value, size) => value instanceof Uint8Array && value.byteLength === size;
var isCount2 = (value) => typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
var bad4 = (why) => Result.fail(new Malformed({ what: "proof file", why }));

// src/codec/membership/facts.ts
var everything = void 0;
var makeFacts = () => {
  const grants = /* @__PURE__ */ new Map();
  const entries = /* @__PURE__ */ new Map();
  const leavings = /* @__PURE__ */ new Map();
  const revocations = /* @__PURE__ */ new Map();
  const namings = /* @__PURE__ */ new Map();
  const meshNamings = [];
  const issues = /* @__PURE__ */ new Map();
  const uses = /* @__PURE__ */ new Map();
  const withdrawals = /* @__PURE__ */ new Map();
  const admissions = /* @__PURE__ */ new Map();
  const claims = /* @__PURE__ */ new Map();
  const logsOf = /* @__PURE__ */ new Map();
  const contested = /* @__PURE__ */ new Set();
  const closings = /* @__PURE__ */ new Map();
  const thresholds = [];
  const recoveries = [];
  const everOwners = /* @__PURE__ */ new Set();
  let touchedDevices = /* @__PURE__ */ new Set();
  let touchedInvites = /* @__PURE__ */ new Set();
  const grantsOf = (device, horizon) => latest(grants.get(device), horizon);
  const entriesOf = (device, horizon) => (entries.get(device) ?? []).filter((vertex) => within(horizon, vertex));
  const revocationsOf = (device, horizon) => (revocations.get(device) ?? []).filter(({ vertex }) => within(horizon, vertex));
  const notOutlived = (device, horizon, list) => {
    if (list.length === 0) return list;
    const known = entriesOf(device, horizon);
    return list.filter((vertex) => within(horizon, vertex) && !known.some((entry) => knew(entry, vertex)));
  };
  const outstanding = (device, horizon) => notOutlived(device, horizon, (revocations.get(device) ?? []).map(({ vertex }) => vertex));
  const heldOf2 = (device, horizon, counts = () => true) => {
    if (!revocations.has(device)) return [];
    const known = revocationsOf(device, horizon).filter(({ vertex }) => counts(vertex)).sort((a, b) => byOrder(a.vertex, b.vertex));
    const between = entriesOf(device, horizon);
    const apart = (a, b) => between.some((entry) => knew(entry, a) && knew(b, entry));
    return known.map(({ vertex }) => vertex).filter((one) => isAgreed(known.filter(({ vertex: other }) => !apart(one, other) && !apart(other, one))));
  };
  const standingOf = (device, horizon) => {
    const role = lowestRole(grantsOf(device, horizon));
    if (role === void 0) return { standing: void 0, role };
    const [revocation] = notOutlived(device, horizon, heldOf2(device, horizon));
    if (revocation !== void 0) return { standing: "revoked", role, revocation };
    const left = notOutlived(device, horizon, leavings.get(device) ?? []).length > 0;
    return { standing: left ? "left" : "member", role };
  };
  const ownersBut = (device, horizon) => {
    let count = 0;
    for (const other of everOwners) {
      if (other === device) continue;
      const { standing, role } = standingOf(other, horizon);
      if (standing === "member" && role === "owner") count++;
    }
    return count;
  };
  const thresholdSaid = (horizon) => {
    let said = 1;
    const votes = /* @__PURE__ */ new Map();
    for (const { vertex, others } of thresholds) {
      const { author, says } = vertex.operation;
      if (says.kind !== "owners.threshold" || !within(horizon, vertex)) continue;
      if (says.threshold < said) {
        votes.set(author, says.threshold);
        const agreeing = [...votes.values()].filter((number) => number === says.threshold).length;
        if (agreeing < clip(said, others)) continue;
      }
      said = says.threshold;
      votes.clear();
    }
    return said;
  };
  const claimOf = (log, horizon) => {
    let first;
    for (const claim2 of claims.get(log) ?? []) if (within(horizon, claim2.vertex) && (first === void 0 || byClaim(claim2, first) < 0)) first = claim2;
    return first;
  };
  const closingOf = (log, device, horizon) => (closings.get(log) ?? []).filter(({ vertex }) => vertex.operation.author === device && within(horizon, vertex)).sort((a, b) => a.length - b.length || byOrder(a.vertex, b.vertex))[0]?.vertex;
  const claim = (log, device, vertex) => {
    for (const other of claims.get(log) ?? []) {
      touchedDevices.add(other.device);
      contested.add(log);
    }
    push(claims, log, { vertex, device });
    const logs = logsOf.get(device);
    if (logs === void 0) logsOf.set(device, /* @__PURE__ */ new Set([log]));
    else logs.add(log);
  };
  const enter = (device, vertex, role) => {
    push(grants, device, vertex);
    push(entries, device, vertex);
    if (role === "owner") everOwners.add(device);
  };
  const add2 = (vertex) => {
    const { author, says } = vertex.operation;
    if (!ofNoDevice.has(says.kind)) touchedDevices.add("device" in says ? says.device : author);
    if ("invite" in says) touchedInvites.add(says.invite);
    switch (says.kind) {
      case "mesh.created":
        meshNamings.push(vertex);
        return enter(author, vertex, "owner");
      case "mesh.named":
        meshNamings.push(vertex);
        return;
      case "invite.issued":
        uses.set(says.invite, Math.min(uses.get(says.invite) ?? Infinity, says.uses));
        return push(issues, says.invite, vertex);
      case "invite.withdrawn":
        return push(withdrawals, says.invite, vertex);
      case "member.admitted":
        push(namings, says.device, vertex);
        push(admissions, says.invite, { vertex, device: says.device });
        claim(says.log, says.device, vertex);
        return enter(says.device, vertex, says.role);
      case "member.named":
        return push(namings, says.device, vertex);
      case "role.set":
        push(grants, says.device, vertex);
        if (says.role === "owner") everOwners.add(says.device);
        return;
      case "log.attached":
        return claim(says.log, author, vertex);
      case "log.succeeded":
        push(closings, says.log, { vertex, length: says.length });
        return claim(says.successor, author, vertex);
      case "member.left":
        return push(leavings, author, vertex);
      case "member.revoked": {
        const said = standingOf(says.device, vertex).role === "owner" ? thresholdSaid(vertex) : 1;
        const needed = said === 1 ? 1 : clip(said, ownersBut(says.device, vertex));
        return push(revocations, says.device, { vertex, needed });
      }
      case "owners.threshold": {
        const at = thresholds.findLastIndex((other) => byOrder(other.vertex, vertex) < 0) + 1;
        thresholds.splice(at, 0, { vertex, others: ownersBut(author, vertex) });
        return;
      }
      case "recovery.set":
        recoveries.push(vertex);
        return;
      case "recovery.used":
        push(namings, author, vertex);
        claim(says.log, author, vertex);
        return enter(author, vertex, "owner");
      case "epoch.rotated":
      case "epoch.shared":
      case "kept":
        return;
    }
  };
  return {
    add: add2,
    devices: () => grants.keys(),
    invites: () => issues.keys(),
    logsOf: (device) => logsOf.get(device) ?? [],
    contestedLogs: () => contested,
    standingOf,
    grantsOf,
    entriesOf,
    outstanding,
    heldOf: heldOf2,
    ownersBut,
    thresholdSaid,
    claimOf,
    closingOf,
    meshNaming: () => lastOf(meshNamings, everything),
    namingOf: (device) => lastOf(namings.get(device), everything),
    issueOf: (invite, horizon) => firstOf(issues.get(invite), horizon),
    usesOf: (invite) => uses.get(invite) ?? Infinity,
    isWithdrawn: (invite, horizon) => (withdrawals.get(invite) ?? []).some((vertex) => within(horizon, vertex)),
    admissionsBy: (invite, horizon) => (admissions.get(invite) ?? []).map(({ vertex }) => vertex).filter((vertex) => within(horizon, vertex)),
    admittedBy: (invite, horizon) => new Set((admissions.get(invite) ?? []).filter(({ vertex }) => within(horizon, vertex)).sort((a, b) => byOrder(a.vertex, b.vertex)).map(({ device }) => device)),
    claimsOf: (log, horizon) => (claims.get(log) ?? []).filter((claim2) => within(horizon, claim2.vertex)).sort(byClaim),
    recoveryOf: (horizon) => lastOf(recoveries, horizon),
    takeTouched: () => {
      const touched = { devices: touchedDevices, invites: touchedInvites };
      touchedDevices = /* @__PURE__ */ new Set();
      touchedInvites = /* @__PURE__ */ new Set();
      return touched;
    }
  };
};
var ofNoDevice = /* @__PURE__ */ new Set(["mesh.named", "invite.issued", "invite.withdrawn", "epoch.rotated", "epoch.shared", "recovery.set"]);
var clip = (said, others) => Math.max(1, Math.min(said, others));
var isAgreed = (revocations) => {
  const authors = /* @__PURE__ */ new Set();
  return revocations.some(({ vertex, needed }) => authors.add(vertex.operation.author).size >= needed);
};
var roleGiven = ({ operation: { says } }) => says.kind === "member.admitted" || says.kind === "role.set" ? says.role : "owner";
var lowestRole = (grants) => {
  let role;
  for (const grant of grants) {
    const given = roleGiven(grant);
    if (role === void 0 || rankOf(given) < rankOf(role)) role = given;
  }
  return role;
};
var listedLength = (cutoffs, log) => {
  const lengths = (cutoffs ?? []).filter((cutoff) => cutoff.log === log).map(({ length }) => length);
  return lengths.length === 0 ? void 0 : Math.min(...lengths);
};
var within = (horizon, vertex) => horizon === void 0 || knew(horizon, vertex);
var holds = (operation) => operation.holds;
var byClaim = (a, b) => Number(holds(b.vertex.operation)) - Number(holds(a.vertex.operation)) || byOrder(a.vertex, b.vertex);
var push = (map, key, value) => {
  const list = map.get(key);
  if (list === void 0) map.set(key, [value]);
  else list.push(value);
};
var firstOf = (vertices, horizon) => {
  let first;
  for (const vertex of vertices ?? []) if (within(horizon, vertex) && (first === void 0 || byOrder(vertex, first) < 0)) first = vertex;
  return first;
};
var lastOf = (vertices, horizon) => {
  let last;
  for (const vertex of vertices ?? []) if (within(horizon, vertex) && (last === void 0 || byOrder(vertex, last) > 0)) last = vertex;
  return last;
};
var latest = (vertices, horizon) => {
  let out = [];
  for (const vertex of vertices ?? []) {
    if (!within(horizon, vertex) || out.some((other) => knew(other, vertex))) continue;
    if (out.length > 0) out = out.filter((other) => !knew(vertex, other));
    out.push(vertex);
  }
  return out;
};

// src/codec/membership/cuts.ts
var cutAtOf = ({ facts, removals }, claim, log, horizon) => {
  const closing = facts.closingOf(log, claim.device, horizon)?.operation.says;
  let cut = closing?.kind === "log.succeeded" ? closing.length : Infinity;
  for (const revocation of horizon === void 0 ? removals.get(claim.device) ?? [] : facts.heldOf(claim.device, horizon)) {
    const { says } = revocation.operation;
    if (says.kind !== "member.revoked" || knew(claim.vertex, revocation)) continue;
    cut = Math.min(cut, listedLength(says.cutoffs, log) ?? 0);
  }
  return cut === Infinity ? void 0 : cut;
};

// src/codec/membership/rules.ts
var fault = (facts, vertex) => {
  const { author, says } = vertex.operation;
  if (says.kind === "mesh.created") return void 0;
  if (says.kind === "kept") return `the kind ${says.name} is not known here`;
  if (says.kind === "recovery.used") return faultOfRecovery(facts, vertex, says);
  const own = facts.standingOf(author, vertex);
  if (own.standing !== "member" || own.role === void 0) return `its author ${whyNoMember(own)}`;
  const role = own.role;
  switch (says.kind) {
    case "mesh.named":
      return role === "owner" ? void 0 : "only an owner names the mesh";
    case "owners.threshold":
      return role === "owner" ? void 0 : "only an owner says how many owners must agree";
    case "recovery.set":
      return role === "owner" ? void 0 : "only an owner sets the recovery key";
    case "epoch.rotated":
      return manages(role) ? void 0 : "only admins and owners rotate the key epoch";
    case "epoch.shared":
      return manages(role) ? void 0 : "only admins and owners share keys";
    case "invite.issued":
      if (!manages(role)) return "only admins and owners issue invites";
      if (!actsOn(role, says.role)) return `an ${role} invites lower roles only`;
      return facts.issueOf(says.invite, vertex) === void 0 ? void 0 : "this invite was issued before";
    case "invite.withdrawn": {
      if (!manages(role)) return "only admins and owners withdraw invites";
      const issue = facts.issueOf(says.invite, vertex)?.operation;
      if (issue?.says.kind !== "invite.issued") return "no such invite was issued";
      return issue.author === author || actsOn(role, issue.says.role) ? void 0 : `an ${role} withdraws invites for lower roles only`;
    }
    case "member.admitted":
      return manages(role) ? faultOfAdmission(facts, vertex, says, role) : "only admins and owners admit";
    case "member.named": {
      const target = facts.standingOf(says.device, vertex);
      if (target.standing !== "member" || target.role === void 0) return `the named device ${whyNoMember(target)}`;
      if (says.device === author) return void 0;
      if (!manages(role)) return "only admins and owners name another's node";
      return actsOn(role, target.role) ? void 0 : `an ${role} names nodes of lower rank only`;
    }
    case "role.set":
      return manages(role) ? faultOfRole(facts, vertex, says, role) : "only admins and owners set roles";
    case "log.attached":
      return isTaken(facts, vertex, says.log) ? "the log belongs to another device" : void 0;
    case "log.succeeded": {
      if (facts.claimOf(says.log, vertex)?.device !== author) return "the log does not belong to its author";
      if (facts.closingOf(says.log, author, vertex) !== void 0) return "the log was closed before";
      if (isTaken(facts, vertex, says.successor)) return "the successor belongs to another device";
      return facts.closingOf(says.successor, author, vertex) === void 0 ? void 0 : "the successor was closed before";
    }
    case "member.left":
      return role === "owner" && facts.ownersBut(author, vertex) === 0 ? "the last owner stays" : void 0;
    case "member.revoked": {
      if (!manages(role)) return "only admins and owners revoke";
      if (says.device === author) return "a node does not revoke itself; it leaves";
      const target = facts.standingOf(says.device, vertex);
      if (target.role === void 0) return "the device was no member";
      if (target.standing === "revoked") return `the device ${whyNoMember(target)}`;
      return actsOn(role, target.role) ? void 0 : `an ${role} revokes nodes of lower rank only`;
    }
  }
};
var manages = (role) => rankOf(role) >= rankOf("admin");
var actsOn = (role, other) => role === "owner" || rankOf(other) < rankOf(role);
var faultOfAdmission = (facts, vertex, says, role) => {
  const issue = facts.issueOf(says.invite, vertex)?.operation.says;
  if (issue?.kind !== "invite.issued") return "no such invite was issued";
  if (!vertex.operation.proven) return "the invite's proof is wrong";
  if (facts.isWithdrawn(says.invite, vertex)) return "the invite was withdrawn";
  if (rankOf(says.role) > rankOf(issue.role)) return `the invite goes up to ${issue.role}`;
  if (!actsOn(role, says.role)) return `an ${role} admits to lower roles only`;
  if (facts.standingOf(says.device, vertex).standing === "member") return "the device was a member already";
  const known = facts.admittedBy(says.invite, vertex);
  if (!known.has(says.device) && known.size >= issue.uses) return "the invite was used up";
  return isFresh(facts, vertex, says.log, says.device) ? void 0 : "the log was attached before; a device that comes back brings a new one";
};
var faultOfRole = (facts, vertex, says, role) => {
  const { author } = vertex.operation;
  const target = facts.standingOf(says.device, vertex);
  if (target.standing !== "member" || target.role === void 0) return `the device ${whyNoMember(target)}`;
  if (says.device !== author && target.role === "owner") return "an owner's role is changed by itself only";
  if (says.device !== author && !actsOn(role, target.role)) return `an ${role} sets the roles of lower ranks only`;
  if (!actsOn(role, says.role)) return `an ${role} gives lower roles only`;
  if (says.device !== author || says.role === "owner") return void 0;
  return role === "owner" && facts.ownersBut(author, vertex) === 0 ? "the last owner stays" : void 0;
};
var faultOfRecovery = (facts, vertex, says) => {
  const { author, proven } = vertex.operation;
  const set = facts.recoveryOf(vertex)?.operation.says;
  if (set?.kind !== "recovery.set") return "the mesh had no recovery key";
  if (set.recovery !== says.recovery) return "another recovery key was in force";
  if (!proven) return "the proof of the recovery key is wrong";
  const kept = facts.standingOf(author, vertex).standing === "member" && facts.claimOf(says.log, vertex)?.device === author;
  return kept || isFresh(facts, vertex, says.log, author) ? void 0 : "the log was attached before; a device that comes back brings a new one";
};
var isTaken = (facts, vertex, log) => {
  const claim = facts.claimOf(log, vertex);
  return claim !== void 0 && claim.device !== vertex.operation.author && (claim.vertex.operation.holds || !vertex.operation.holds);
};
var isFresh = (facts, vertex, log, device) => {
  const claim = facts.claimOf(log, vertex);
  return claim === void 0 || claim.device !== device && vertex.operation.holds && !claim.vertex.operation.holds;
};
var whyNoMember = ({ standing, revocation }) => standing === "left" ? "had left" : revocation === void 0 ? "was no member" : `was revoked by ${shortKey(revocation.operation.author)} before`;

// src/codec/membership/passes.ts
var makePass = (accepted, blocked) => {
  const facts = makeFacts();
  const voids = /* @__PURE__ */ new Map();
  const reason = (vertex) => {
    if (accepted.revocations.has(vertex)) return void 0;
    const removal = removalOf(accepted.removals, vertex);
    if (removal !== void 0) return `its author was revoked by ${shortKey(removal.operation.author)} concurrently`;
    if (blocked.has(vertex)) return "another recovery key was set concurrently";
    return fault(facts, vertex) ?? surplus(facts, vertex);
  };
  return {
    facts,
    voids,
    judge: (vertex) => {
      const why = reason(vertex);
      if (why === void 0) facts.add(vertex);
      else voids.set(vertex.operation.hash, why);
    }
  };
};
var passOver = (order, contests, accepted) => {
  const first = run(order, accepted, new Set(contests.keys()));
  if (contests.size === 0) return first;
  const blocked = [...contests].filter(([, changes]) => changes.some(({ operation }) => !first.voids.has(operation.hash))).map(([use]) => use);
  return blocked.length === contests.size ? first : run(order, accepted, new Set(blocked));
};
var contest = (use, change) => {
  const used = use.operation.says;
  const set = change.operation.says;
  return used.kind === "recovery.used" && set.kind === "recovery.set" && used.recovery !== set.recovery && concurrent(use, change);
};
var run = (order, accepted, blocked) => {
  const pass = makePass(accepted, blocked);
  for (const vertex of order) pass.judge(vertex);
  return pass;
};
var removalOf = (removals, vertex) => removals.get(vertex.operation.author)?.find((removal) => removes(removal, vertex));
var removes = (removal, vertex) => {
  const { says } = vertex.operation;
  return concurrent(removal, vertex) && !(says.kind === "member.revoked" && says.device === removal.operation.author);
};
var surplus = (facts, vertex) => {
  const { says } = vertex.operation;
  if (says.kind !== "member.admitted") return void 0;
  const issue = facts.issueOf(says.invite, vertex)?.operation.says;
  const before = facts.admittedBy(says.invite, everything);
  return issue?.kind === "invite.issued" && !before.has(says.device) && before.size >= issue.uses ? "the invite was used up by an admission that comes first" : void 0;
};

// src/codec/membership/acceptance.ts
var roundsMax = 64;
var accept = (order, contests) => {
  const revocations = order.flatMap((vertex) => vertex.operation.says.kind === "member.revoked" ? [{ vertex, device: vertex.operation.says.device }] : []);
  const accepted = /* @__PURE__ */ new Set();
  const held = /* @__PURE__ */ new Set();
  for (let round = 1; ; round++) {
    const removals = byDevice(revocations.filter(({ vertex }) => held.has(vertex)));
    const pass = passOver(order, contests, { revocations: accepted, removals });
    const candidates = revocations.filter(({ vertex }) => !accepted.has(vertex) && !pass.voids.has(vertex.operation.hash));
    for (const { vertex } of round < roundsMax ? nextOf(pass.facts, candidates) : candidates) accepted.add(vertex);
    const before = held.size;
    for (const device of new Set(revocations.map((revocation) => revocation.device))) {
      for (const vertex of pass.facts.heldOf(device, everything, (other) => accepted.has(other))) held.add(vertex);
    }
    if (candidates.length === 0 && held.size === before) return { pass, accepted: { revocations: accepted, removals } };
  }
};
var nextOf = (facts, candidates) => {
  const about = byDevice(candidates);
  const free = candidates.filter(({ vertex }) => ![vertex, ...authorityOf(facts, vertex)].some((basis) => (about.get(basis.operation.author) ?? []).some((other) => other !== vertex && removes(other, basis))));
  return free.length > 0 ? free : candidates.map((candidate) => weigh(facts, candidate)).sort(bySeniority).slice(0, 1);
};
var authorityOf = (facts, revocation) => {
  const found = /* @__PURE__ */ new Set();
  const queue = [revocation];
  for (const vertex of queue) {
    for (const basis of basesOf(facts, vertex)) {
      if (found.has(basis)) continue;
      found.add(basis);
      queue.push(basis);
    }
  }
  return found;
};
var basesOf = (facts, vertex) => {
  const { author, says } = vertex.operation;
  const bases = says.kind === "recovery.used" ? [facts.recoveryOf(vertex)] : [...facts.grantsOf(author, vertex), ...facts.entriesOf(author, vertex)];
  if (says.kind === "member.admitted") bases.push(facts.issueOf(says.invite, vertex));
  return bases.filter((basis) => basis !== void 0);
};
var weigh = (facts, candidate) => {
  const { vertex } = candidate;
  const { author } = vertex.operation;
  const rank = Math.min(...facts.grantsOf(author, vertex).map((grant) => rankOf(roleGiven(grant))));
  const [entry = vertex] = [...facts.entriesOf(author, vertex)].sort(byOrder);
  return { ...candidate, rank, entry };
};
var bySeniority = (a, b) => b.rank - a.rank || byOrder(a.entry, b.entry) || byOrder(a.vertex, b.vertex);
var byDevice = (revocations) => {
  const out = /* @__PURE__ */ new Map();
  for (const { vertex, device } of revocations) {
    const others = out.get(device);
    if (others === void 0) out.set(device, [vertex]);
    else others.push(vertex);
  }
  return out;
};

// src/codec/membership/resolver.ts
var makeResolver = () => {
  const order = [];
  let isSorted = true;
  let stale = false;
  const nothing = { revocations: /* @__PURE__ */ new Set(), removals: /* @__PURE__ */ new Map() };
  let resolved = { pass: makePass(nothing, /* @__PURE__ */ new Set()), accepted: nothing };
  const entering = /* @__PURE__ */ new Set();
  const uses = [];
  const changes = [];
  const epochs = [];
  const sorted = () => {
    if (!isSorted) order.sort(byOrder);
    isSorted = true;
    return order;
  };
  const contests = () => new Map(uses.flatMap((use) => {
    const against = changes.filter((change) => contest(use, change));
    return against.length === 0 ? [] : [[use, against]];
  }));
  const standsAlone = (vertex) => {
    const { author, says } = vertex.operation;
    switch (says.kind) {
      // Of one that nobody ever let in nothing can count.
      case "member.revoked":
        return !entering.has(author);
      case "member.admitted":
        return !mayPushOut(resolved.pass.facts, vertex, says.invite);
      case "recovery.used":
        return !changes.some((change) => contest(vertex, change));
      case "recovery.set":
        return !uses.some((use) => contest(use, vertex));
      default:
        return true;
    }
  };
  const note = (vertex) => {
    const { author, says } = vertex.operation;
    if (says.kind === "mesh.created" || says.kind === "recovery.used") entering.add(author);
    if (says.kind === "member.admitted") entering.add(says.device);
    if (says.kind === "recovery.used") uses.push(vertex);
    if (says.kind === "recovery.set") changes.push(vertex);
    if (says.kind === "epoch.rotated" || says.kind === "epoch.shared") epochs.push(vertex);
  };
  return {
    enter: (vertex) => {
      const last = order[order.length - 1];
      isSorted &&= last === void 0 || byOrder(last, vertex) < 0;
      order.push(vertex);
      note(vertex);
      if (stale) return;
      if (standsAlone(vertex)) resolved.pass.judge(vertex);
      else stale = true;
    },
    verdicts: () => {
      if (stale) {
        resolved = accept(sorted(), contests());
        stale = false;
      }
      return { facts: resolved.pass.facts, voids: resolved.pass.voids, removals: resolved.accepted.removals, epochs };
    },
    order: sorted
  };
};
var mayPushOut = (facts, vertex, invite) => {
  const others = facts.admissionsBy(invite, everything);
  if (others.every((other) => byOrder(other, vertex) < 0)) return false;
  return facts.admittedBy(invite, everything).size >= facts.usesOf(invite);
};

// src/codec/verify/verify.ts
var faultsMax = 50;
var verifyProof = (bytes) => {
  const file = decodeProof(bytes);
  return Result.isFailure(file) ? Result.fail(file.failure) : Result.succeed(checkProof(file.success));
};
var checkProof = (file) => {
  const faults = [];
  const fault2 = (text2) => {
    if (faults.length < faultsMax) faults.push(text2);
  };
  const verdicts = chainOf(file, fault2);
  const naming = verdicts.facts.meshNaming()?.operation.says;
  const name = naming?.kind === "mesh.created" || naming?.kind === "mesh.named" ? naming.name : "";
  const logs = [];
  let lastKey = "";
  for (const log of file.logs) {
    const key = toHex(logKeyOf(log.manifest));
    if (key <= lastKey) fault2(`log ${shortKey(key)}: the logs are not in order`);
    lastKey = key;
    const owner = ownerOf(verdicts, key, log, fault2);
    logs.push({ log: key, ...owner, fork: log.fork, length: log.length, events: eventsOf(key, log, fault2) });
  }
  return { proved: faults.length === 0, faults, mesh: { id: file.mesh, name }, operations: file.operations.length, logs };
};
var chainOf = (file, fault2) => {
  const graph = makeGraph(file.mesh);
  const resolver = makeResolver();
  for (const [i, bytes] of file.operations.entries()) {
    const opened = openOperation(bytes);
    if (Result.isFailure(opened)) {
      fault2(`membership operation ${i + 1}: ${opened.failure.message}`);
      continue;
    }
    const entry = graph.enter(opened.success);
    if (entry._tag !== "Entered") {
      const why = entry._tag === "Refused" ? entry.why : entry._tag === "Known" ? "it stands there twice" : "what it builds on is missing";
      fault2(`membership operation ${i + 1}: ${why}`);
      continue;
    }
    for (const vertex of entry.vertices) resolver.enter(vertex);
  }
  if (graph.vertex(file.mesh) === void 0) fault2("the operation that created the mesh is missing");
  return resolver.verdicts();
};
var ownerOf = (verdicts, key, log, fault2) => {
  const { facts } = verdicts;
  const claim = facts.claimOf(key, everything);
  if (claim === void 0) {
    fault2(`log ${shortKey(key)}: no member of the mesh attached it`);
    return {};
  }
  const { device } = claim;
  const last = log.frames[log.frames.length - 1]?.block ?? 0;
  const closing = facts.closingOf(key, device, everything)?.operation.says;
  const cut = cutAtOf(verdicts, claim, key, everything);
  if (closing?.kind === "log.succeeded" && last >= closing.length) {
    fault2(`log ${shortKey(key)}: its device closed it at ${closing.length}, block ${last} is beyond`);
  } else if (cut !== void 0 && last >= cut) {
    fault2(`log ${shortKey(key)}: its device was revoked and the log cut at ${cut}, block ${last} is beyond`);
  }
  const naming = facts.namingOf(device)?.operation.says;
  const role = facts.standingOf(device, everything).role;
  return {
    device,
    deviceName: naming !== void 0 && "name" in naming ? naming.name : shortKey(device),
    ...role === void 0 ? {} : { role }
  };
};
var eventsOf = (key, log, fault2) => {
  const signer = signerOf(log.manifest);
  if (signer === void 0) fault2(`log ${shortKey(key)}: its manifest is not of a kOS log`);
  else if (!verify2(treeSignable(fromHex(key), treeHash(log.length, log.roots), log.length, log.fork), log.signature, signer)) {
    fault2(`log ${shortKey(key)}: the tree of ${log.length} blocks was not signed by the log's writer`);
  }
  const events = [];
  let lastBlock = -1;
  for (const frame of log.frames) {
    const place = `log ${shortKey(key)}, block ${frame.block}`;
    if (frame.block <= lastBlock) fault2(`${place}: the blocks are not in order`);
    lastBlock = frame.block;
    const why = treeFault(log, frame);
    if (why !== void 0) {
      fault2(`${place}: ${why}`);
      continue;
    }
    const opened = openFrame(frame.sealed, { log: key, block: frame.block }, frame.key);
    if (Result.isFailure(opened)) {
      fault2(`${place}: ${opened.failure.message}`);
      continue;
    }
    let lastOffset = -1;
    for (const offset of frame.offsets) {
      const event = opened.success[offset];
      if (event === void 0) fault2(`${place}: there is no event ${offset} in it`);
      else if (offset <= lastOffset) fault2(`${place}: the events are not in order`);
      else events.push({ block: frame.block, offset, event });
      lastOffset = offset;
    }
  }
  return events;
};
var treeFault = (log, frame) => {
  const places = rootPlaces(log.length);
  const at = places.findIndex((place2) => frame.block >= place2.first && frame.block < place2.first + place2.count);
  const place = places[at];
  const root = log.roots[at];
  if (place === void 0 || root === void 0) return `the log had ${log.length} blocks only`;
  if (2 ** frame.path.length !== place.count) return "its way to the root of the tree has the wrong length";
  const top = climb(frame.block - place.first, leafNode(frame.sealed), frame.path);
  return top.size === root.size && equalBytes(top.hash, root.hash) ? void 0 : "it is not the block that the writer signed there";
};

// src/codec/verify/main.ts
var usageText = `Usage: kos-verify FILE [--json] [--mesh ID]

Checks a proof file that "kos event export --proof" wrote: signatures, order, and that the shown events are those signed.
  --json      one JSON value instead of text
  --mesh ID   also require that the events are of the mesh with this id (64 hex digits, or the first 16 or more)

Exit code 0: proved. 1: not proved, with what fails. 2: not a proof file, or it cannot be read.`;
var bodyLengthMax = 160;
var run2 = (args, print, complain) => {
  const asJson = args.includes("--json");
  const rest = args.filter((arg) => arg !== "--json");
  if (rest.includes("--help") || rest.includes("-h")) {
    print(usageText);
    return 0;
  }
  const meshAt = rest.indexOf("--mesh");
  const [, mesh = meshAt < 0 ? "" : "?"] = meshAt < 0 ? [] : rest.splice(meshAt, 2);
  const [path] = rest;
  const failed = (detail) => {
    if (asJson) print(JSON.stringify({ proved: false, malformed: detail }));
    else complain(detail);
    return 2;
  };
  if (path === void 0 || rest.length !== 1 || path.startsWith("-") || mesh !== "" && !/^[0-9a-f]{16,64}$/.test(mesh)) return failed(usageText);
  let bytes;
  try {
    if (statSync(path).size > proofBytesMax) return failed(`${path} is larger than ${proofBytesMax} bytes.`);
    bytes = readFileSync(path);
  } catch (cause) {
    return failed(`${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  const checked = verifyProof(bytes);
  if (Result.isFailure(checked)) return failed(`Not a proof: ${checked.failure.message}.`);
  const report = expecting(checked.success, mesh);
  print(asJson ? JSON.stringify(report, plainBytes) : text(report));
  return report.proved ? 0 : 1;
};
var expecting = (report, mesh) => report.mesh.id.startsWith(mesh) ? report : { ...report, proved: false, faults: [`the events are of mesh ${report.mesh.id}, not of ${mesh}`, ...report.faults] };
var text = (report) => {
  const events = report.logs.reduce((sum, log) => sum + log.events.length, 0);
  const lines = [
    `mesh ${clean2(report.mesh.name)}, id ${report.mesh.id}`,
    `${report.operations} membership operations lead from its creation to the devices below`
  ];
  for (const log of report.logs) {
    const first = log.events[0]?.block;
    const last = log.events[log.events.length - 1]?.block;
    lines.push(
      "",
      `${clean2(log.deviceName ?? "unknown device")} (${log.role ?? "no member"}), device ${log.device ?? "unknown"}`,
      `  log ${log.log}${first === void 0 ? "" : `, blocks ${first} to ${last}`} of ${log.length} when its tree was signed`
    );
    for (const { block, offset, event } of log.events) {
      lines.push(`  ${block}.${offset}  ${stampText(event.at)}  ${event.type}  ${clean2(event.actor)}  ${clean2(event.subject)}  ${bodyText(event.body)}`);
    }
  }
  lines.push("");
  if (!report.proved) {
    return [...lines, "NOT PROVED:", ...report.faults.map((fault2) => `  ${clean2(fault2)}`)].join("\n");
  }
  return [
    ...lines,
    `proved: ${events} ${events === 1 ? "event was" : "events were"} written by the devices named above, at these places, in this order.`,
    "Times are as the devices' clocks had them. Whether this is the mesh you mean, its id says: compare it with one you trust."
  ].join("\n");
};
var clean2 = (value) => value.replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, "�");
var bodyText = (body) => {
  const short = (_, value) => value instanceof Uint8Array ? `<${value.byteLength} bytes ${shortKey(toHex(value))}>` : value;
  const whole = clean2(JSON.stringify(body, short) ?? "");
  return whole.length > bodyLengthMax ? `${whole.slice(0, bodyLengthMax)}…` : whole;
};
var plainBytes = (_, value) => value instanceof Uint8Array ? Buffer.from(value).toString("base64") : value;

// src/codec/verify/entry.ts
process.exitCode = run2(process.argv.slice(2), (text2) => process.stdout.write(`${text2}
`), (text2) => process.stderr.write(`${text2}
`));
