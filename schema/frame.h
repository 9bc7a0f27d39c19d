/*
 * frame.h - every layout that leaves a process: the ring file, the frames on
 * the socket, the bundle in the database.  Constants and pictures only.
 *
 * All integers are little-endian unless said.  Structures are never read by
 * cast: use schema/wire.h (frames, records) or offsets from here with the
 * load/store helpers of wire.h (ring file).  Sizes are bytes.
 *
 * SP over IPC (nng's own framing, source: nng 1.5.2 ipc transport, big-endian):
 *
 *   handshake, both sides   00 'S' 'P' 00 | protocol u16 | 00 00
 *                           we send 0x0050 (PUSH) and expect 0x0051 (PULL)
 *   each message            01 | body length u64 | body
 *
 * Body of a message, by its first four bytes:
 *
 *   "CMH1" hello   probe -> collector, once per connection (optional)
 *   "CMB1" batch   probe -> collector
 *   "CMS1" stored  collector -> probe, after the commit that it speaks of
 */
#pragma once

#include <stdint.h>

#define FRAME_MAX_BYTES (512u * 1024) /* any body on the socket */
#define FRAME_BATCH_MAX_BYTES \
	(256u * 1024) /* what a probe aims at; may be exceeded by one record */
#define FRAME_RECORD_MAX_BYTES (64u * 1024) /* one record with its header */
#define FRAME_STRING_MAX_BYTES 1024u        /* one interned string */
#define FRAME_TEXT_MAX_BYTES   (16u * 1024) /* one inline text value */
#define FRAME_ATTRS_MAX_BYTES  3072u        /* identity block */
#define FRAME_PROBE_ID_BYTES   16u
#define FRAME_BOOT_ID_BYTES    16u

#define SP_HANDSHAKE_BYTES 8u
#define SP_HEADER_BYTES    9u
#define SP_PROTO_PUSH      0x0050u
#define SP_PROTO_PULL      0x0051u

/* Lost inside the probe; absolute counters, index in the loss array. */
enum wire_loss {
	WIRE_LOSS_RING_FULL = 0,
	WIRE_LOSS_ARENA_FULL = 1,
	WIRE_LOSS_OPEN_FULL = 2, /* not lost: recorded at finish only */
	WIRE_LOSS_TORN = 3,
	WIRE_LOSS_TOO_LARGE = 4,
	WIRE_LOSS_FORK = 5,
	WIRE_LOSS_OFF = 6,
	WIRE_LOSS_OTHER = 7,
};
#define WIRE_LOSS_COUNT 8u

/*
 * Hello (CMH1)
 *    0  "CMH1"
 *    4  u16 version (1)       6  u16 flags (0)
 *    8  probe id [16]
 *   24  boot id [16]
 *   40  u64 pid              48  u64 process start, clock ticks since boot
 *   56  u64 acknowledged     64  u64 head      (stream positions)
 *   72  u64 monotonic ns     80  u64 realtime ns   (read back to back)
 *   88  u32 attrs bytes      92  u32 crc32c of the whole body with this field 0
 *   96  attrs
 *
 * Attrs: a run of { u16 key bytes, u16 value bytes, key, value }, no padding,
 * at most FRAME_ATTRS_MAX_BYTES.  Keys in use: service env version tags
 * hostname runtime_id language language_version probe_version sample_rate
 * sampling_rules rate_limit service_mapping container_id trace_enabled
 * peer_service name life, others are kept and shown.  life: the start of ComfyUI by
 * `comfymon run` that this process belongs to ([0-9a-f-], at most 63 bytes).
 */
#define HELLO_MAGIC       "CMH1"
#define HELLO_FIXED_BYTES 96u

/*
 * Batch (CMB1)
 *    0  "CMB1"
 *    4  u16 version (1)       6  u16 flags (BATCH_*)
 *    8  probe id [16]
 *   24  boot id [16]
 *   40  u64 first            48  u64 end        (stream positions, [first,end))
 *   56  u64 monotonic ns     64  u64 realtime ns
 *   72  u64 losses[8]        (absolute, so that repeats are harmless)
 *  136  u32 records bytes   140  u32 dictionary bytes
 *  144  u32 record count    148  u32 span count (SPAN records)
 *  152  u32 crc32c of the whole body with this field 0
 *  156  u32 0
 *  160  records, then dictionary
 *
 * A record is the ring's own bytes:
 *    0  u64 position   its own stream position, first <= position < end
 *    8  u32 length     with this header, multiple of 8
 *   12  u16 type       event id
 *   14  u8  state      RECORD_PUBLISHED
 *   15  u8  0
 *   16  u32 crc32c     of bytes 0..13 and of the payload
 *   20  u32 0
 *   24  payload
 *
 * A tag (tail of SPAN and OPEN), 8-byte aligned:
 *    0  u32 key        string id in the low 28 bits, kind in the high 4
 *    4  u32 value      by kind, see enum wire_tag
 *    8  (TEXT: bytes padded with 0 to 8; F64: u64 bits)
 *
 * Dictionary: a run of { u32 id, u32 bytes, bytes, padding with 0 to 8 }, each
 * id that the records use, once, ascending.  Ids belong to the probe: the same
 * id names the same string for as long as the probe lives.
 */
#define BATCH_MAGIC         "CMB1"
#define BATCH_FIXED_BYTES   160u
#define BATCH_SALVAGED      0x0001u /* read from the ring of a dead process */
#define RECORD_HEADER_BYTES 24u

enum record_state {
	RECORD_FREE = 0,
	RECORD_BUSY = 1,
	RECORD_PUBLISHED = 2,
};

enum wire_tag {
	WIRE_TAG_STR = 0,  /* meta; value = string id */
	WIRE_TAG_TEXT = 1, /* meta; value = byte count of the inline text that follows */
	WIRE_TAG_I32 = 2,  /* metric; value = int32 */
	WIRE_TAG_F64 = 3,  /* metric; value = 0, 8 bytes of IEEE 754 follow */
};
/*
 * Kinds to come have sizes already, so that a reader steps over what it does not
 * know: 4..7 are followed by 8 bytes, 8..15 by `value` bytes padded to 8.  Their
 * key is a string id; what else they name is not in an older reader's dictionary.
 */
#define WIRE_TAG_KINDS      4u
#define WIRE_TAG_KEY_MASK   0x0fffffffu
#define WIRE_TAG_KIND_SHIFT 28

#define WIRE_SPAN_ERROR         0x0001u
#define WIRE_SPAN_LOCAL_ROOT    0x0002u /* first span of its trace in this process */
#define WIRE_SPAN_REMOTE_PARENT 0x0004u /* parent came over the wire */
#define WIRE_SPAN_OPENED        0x0008u /* an OPEN record came before */
#define WIRE_SPAN_UNFINISHED    0x0010u /* its process did not live to finish it */
#define WIRE_SPAN_JOB           0x0020u /* the span of a job: the trace is held for its end */
#define WIRE_SPAN_JOB_FAILED    0x0040u /* ... and it failed: keep the trace */
#define WIRE_SPAN_MEASURED      0x0080u
#define WIRE_PRIORITY_NONE      127

/*
 * Stored (CMS1)
 *    0  "CMS1"
 *    4  u16 version (1)       6  u16 status (STORED_*)
 *    8  probe id [16]
 *   24  u64 end   everything before it is committed; resume exactly here
 *   32  u32 crc32c of the whole body with this field 0      36  u32 0
 *   40  what a newer collector may add, passed over
 */
#define STORED_MAGIC     "CMS1"
#define STORED_BYTES     40u
#define STORED_OK        0u /* committed up to end */
#define STORED_WANTED    1u /* the batch did not start at end: send from there */
#define STORED_MALFORMED 2u /* refused and counted; end has moved past it */
#define STORED_CLOSED \
	3u /* to a hello: its ring was read as a dead process's, nothing more is taken */

/*
 * Ring file.  One per process; host byte order (a file never changes hosts).
 *
 *    0  "CMRING01"            8  u32 version (1)      12  u32 0
 *   16  probe id [16]        32  boot id [16]
 *   48  u64 pid              56  u64 process start, clock ticks since boot
 *   64  u64 file bytes
 *   72  u64 area offset      80  u64 area bytes       (record area)
 *   88  u64 open offset      96  u32 open slots      100  u32 slot bytes
 *  104  u64 arena offset    112  u64 arena bytes
 *  120  u64 monotonic ns    128  u64 realtime ns      (pair at creation)
 *  136  u32 attrs bytes     140  u32 crc32c of bytes 0..139 then attrs, as written at creation
 *  512  u64 head            (reserved up to here)
 *  576  u64 acknowledged    (stored by the collector up to here)
 *  640  u64 losses[8]
 *  704  u64 beat            (CLOCK_MONOTONIC of the last sign of life)
 *  768  u64 arena used      (bytes, published with release order)
 *  776  u64 arena strings   (count, published before `arena used`)
 *  784  u64 retired         (1: its owner has let go of it in order, as at a normal exit)
 * 1024  attrs, up to FRAME_ATTRS_MAX_BYTES (as in hello)
 * 4096  ...
 *
 * Record area: record at position p lies at area offset + p % area bytes, never
 * across the end of the area (a PAD record fills up; it may be only a bare
 * 8-byte multiple: a gap of 8 or 16 bytes, too small for a header, is left as
 * is and skipped by both sides).
 *
 * Arena entry: { u32 bytes, u32 crc32c of the bytes, bytes, padding to 8 }; the
 * n-th entry (from 1) is string id n.
 *
 * Open slot:
 *    0  u32 state (SLOT_*)    4  u32 payload bytes
 *    8  u64 finish position, SLOT_NO_POSITION while open
 *   16  u64 generation       24  u32 crc32c of the payload   28  u32 0
 *   32  payload of an OPEN record (fixed part and tags)
 */
#define RING_MAGIC             "CMRING01"
#define RING_VERSION           1u
#define RING_HEADER_BYTES      4096u
#define RING_OFF_PROBE_ID      16u
#define RING_OFF_BOOT_ID       32u
#define RING_OFF_PID           48u
#define RING_OFF_START         56u
#define RING_OFF_FILE_BYTES    64u
#define RING_OFF_AREA          72u
#define RING_OFF_AREA_BYTES    80u
#define RING_OFF_OPEN          88u
#define RING_OFF_OPEN_SLOTS    96u
#define RING_OFF_SLOT_BYTES    100u
#define RING_OFF_ARENA         104u
#define RING_OFF_ARENA_BYTES   112u
#define RING_OFF_MONO          120u
#define RING_OFF_REAL          128u
#define RING_OFF_ATTRS_BYTES   136u
#define RING_OFF_CRC           140u
#define RING_OFF_HEAD          512u
#define RING_OFF_ACKED         576u
#define RING_OFF_LOSSES        640u
#define RING_OFF_BEAT          704u
#define RING_OFF_ARENA_USED    768u
#define RING_OFF_ARENA_STRINGS 776u
#define RING_OFF_RETIRED       784u
#define RING_OFF_ATTRS         1024u

#define SLOT_FREE         0u
#define SLOT_BUSY         1u
#define SLOT_OPEN         2u
#define SLOT_HEADER_BYTES 32u
#define SLOT_BYTES        512u
#define SLOT_NO_POSITION  UINT64_MAX

/*
 * Names in the run directory: "ring-<32 hex of the probe id>.cm", written as
 * "new-<hex>.tmp", locked, then renamed; "comfymon.sock" the collector's
 * listener; "control.sock" its control server.
 */
#define RUN_SOCKET_NAME  "comfymon.sock"
#define RUN_CONTROL_NAME "control.sock"
#define RUN_RING_PREFIX  "ring-"
#define RUN_RING_SUFFIX  ".cm"
#define RUN_NEW_PREFIX   "new-"
#define RUN_NEW_SUFFIX   ".tmp"

/*
 * Body file: a prompt that waits, for POST /prompt to take it again; only with
 * COMFYMON_RESUBMIT=1.  RUN_DIR/bodies (0700) has one for each, 0600, named
 * "<prompt id>-<16 hex>.json", written as "<16 hex>.tmp" and renamed.  First a line,
 *
 *   comfymon-body 1 number=<text> workflow=<8 hex> probe=<32 hex> secret=<0|1> bytes=<decimal>\n
 *
 * then so many bytes of JSON.  number: its place in ComfyUI's queue, lowest first;
 * workflow: as its resource ends, 0 unknown; secret 1: the job needs one, which is
 * not kept, so there is no JSON.  Unknown keys are skipped.
 */
#define RUN_BODIES_NAME     "bodies"
#define BODY_MAGIC          "comfymon-body 1 "
#define BODY_LINE_MAX_BYTES 256u
#define BODY_JSON_MAX_BYTES (UINT32_C(16) << 20)
#define BODY_ALL_MAX_BYTES  (UINT64_C(256) << 20)
#define BODY_NAME_BYTES     96u /* terminated */

/*
 * Bundle (CMC1): traces of one probe as the database keeps them, both as a
 * chunk (to be sent) and as a segment (still open).
 *    0  "CMC1"
 *    4  u16 version (1)       6  u16 flags (0)
 *    8  u32 trace count      12  u32 span count (SPAN records)
 *   16  u32 traces bytes     20  u32 dictionary bytes
 *   24  u32 crc32c of the whole with this field 0     28  u32 0
 *   32  traces, then dictionary (as in a batch)
 *
 * Trace: 64 bytes, then its records (ring bytes as in a batch)
 *    0  u64 trace_hi          8  u64 trace_lo
 *   16  i64 offset ns: realtime - monotonic, fixed at the first record
 *   24  u32 records bytes    28  u32 record count
 *   32  u16 flags (BUNDLE_*) 34  i8 priority (127 undecided)   35  i8 mechanism (127 none)
 *   36  u32 decision bits (BUNDLE_HAS_*)
 *   40  f64 rule_psr         48  f64 limit_psr     56  f64 agent_psr
 */
#define BUNDLE_MAGIC         "CMC1"
#define BUNDLE_FIXED_BYTES   32u
#define BUNDLE_TRACE_BYTES   64u
#define BUNDLE_PARTIAL       0x0001u /* not the first or not the last part of its trace */
#define BUNDLE_ERROR         0x0002u /* a span has error */
#define BUNDLE_UNFINISHED    0x0004u
#define BUNDLE_KEPT_FAILURE  0x0008u /* tag comfymon.kept:failure */
#define BUNDLE_LAST          0x0010u /* the trace is complete with this part */
#define BUNDLE_HAS_RULE_PSR  0x1u
#define BUNDLE_HAS_LIMIT_PSR 0x2u
#define BUNDLE_HAS_AGENT_PSR 0x4u
