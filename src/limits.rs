//! Every bound of the program in one place, each with its reason.
//!
//! A queue, buffer, body, batch, retry, name or list without a maximum is a way to be killed
//! from outside. Numbers stand here and nowhere else, those of what only measures and plays in
//! `tools`; how they relate is asserted at compile time at the end of each file.

mod hooks;
mod tools;

pub use hooks::*;
pub use tools::*;

mod releases;
mod seals;

pub use self::releases::*;
pub use self::seals::*;

// ---- formulas ----------------------------------------------------------------------------

/// Lines of one formula. The longest real formula we know has 43; perfumers' bases reach 300.
pub const MATERIALS_MAX: usize = 1000;
/// Characters of a formula's or material's name, after trimming.
pub const NAME_CHARS_MAX: usize = 256;
/// UTF-8 bytes of a name: four per character.
pub const NAME_BYTES_MAX: usize = 1024;
/// Bytes of a concentration as sent, such as `15.500000000000000001`.
pub const CONCENTRATION_BYTES_MAX: usize = 64;
/// Decimals of a concentration by value; trailing zeros do not count.
pub const CONCENTRATION_DECIMALS_MAX: u32 = 30;
/// Highest `--max-concentration` that may be configured: keeps the scaled value in a `u128`.
pub const CONCENTRATION_VALUE_MAX: u32 = 1_000_000;
/// Nesting of a JSON body. A formula needs three, an array of formulas four.
pub const JSON_DEPTH_MAX: usize = 32;
/// Faults listed for one body; more are counted, not listed.
pub const FAULTS_MAX: usize = 100;
/// Characters of a body that a fault's text repeats: enough to recognise a misspelt member.
pub const FAULT_QUOTE_CHARS_MAX: usize = 64;

// ---- bodies and batches -------------------------------------------------------------------

/// Bytes of a body that holds one formula: room for `MATERIALS_MAX` lines of longest names.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a body that leases or settles: `LEASE_MESSAGES_MAX` receipts of 60 characters, and
/// a reason, with room to spare.
pub const SETTLE_BYTES_MAX: usize = 256 << 10;
/// Bytes of all bodies that are being gathered from several pieces, of lines that have begun,
/// and of chunks of lines in flight: keeps the process small when every connection sends its
/// largest body at once.
pub const BODIES_BYTES_MAX: usize = 64 << 20;
/// Bytes of a body or line that is parsed on the network thread: the most hostile one of this
/// size takes about 15 ms there, and handing it to another thread costs some 50 µs.
pub const PARSE_INLINE_BYTES_MAX: usize = 64 << 10;
/// Threads for bodies beyond `PARSE_INLINE_BYTES_MAX`: one, which shares the processors with
/// network and writer and leaves them most of the time even under a storm of such bodies.
pub const PARSE_THREADS: usize = 1;
/// Formulas in one array.
pub const BATCH_ITEMS_MAX: usize = 1000;
/// Bytes of a body that holds an array: `BATCH_ITEMS_MAX` formulas of 8 KiB on average.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Bytes of one NDJSON line: one formula.
pub const NDJSON_LINE_BYTES_MAX: usize = BODY_BYTES_MAX;
/// Bytes of a line that has begun which are not charged to `BODIES_BYTES_MAX`: nearly every
/// piece of a stream ends within a line, and no stream is to end for want of room for that.
pub const NDJSON_BEGUN_BYTES_FREE: usize = 16 << 10;
/// NDJSON lines handed to the engine in one command: enough to share one sync, few enough that
/// single posts beside a bulk load wait only microseconds.
pub const NDJSON_CHUNK_LINES: usize = 256;
/// Bytes of lines after which a chunk is handed over before it has `NDJSON_CHUNK_LINES`: bounds
/// what one stream of the longest lines holds in memory.
pub const NDJSON_CHUNK_BYTES: usize = 1 << 20;
/// Chunks of one stream that the engine decides at once: one is synced and one waits while the
/// next is read.
pub const NDJSON_CHUNKS_IN_FLIGHT: usize = 3;
/// How long a stream waits before it hands a chunk over again that the engine had no room for.
pub const NDJSON_OVERLOAD_WAIT_MS: u64 = 10;
/// Bytes of an `Idempotency-Key`.
pub const KEY_BYTES_MAX: usize = 255;
/// Bytes of a caller's `X-Request-Id` that is taken over.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

// ---- queues -------------------------------------------------------------------------------

/// Messages in one lease, receipts in one ack, nack or extend.
pub const LEASE_MESSAGES_MAX: usize = 1000;
/// Shortest lease: below it a lease lapses before its reply arrives.
pub const LEASE_MS_MIN: u64 = 10;
/// Longest lease: twelve hours, as in SQS.
pub const LEASE_MS_MAX: u64 = 12 * 3600 * 1000;
/// Lease when the consumer names none.
pub const LEASE_MS_DEFAULT: u64 = 30_000;
/// How long a message that cannot be read waits before it is leased again: as long as it would
/// have been held, so that it takes no more of the consumers' time than a message that fails.
pub const DAMAGED_DELAY_MS: u64 = LEASE_MS_DEFAULT;
/// Bytes of leased messages after which they are sent while the rest is read: a hundred usual
/// ones, and what a client that does not read keeps in memory.
pub const LEASE_PIECE_BYTES: usize = 64 << 10;
/// Longest long poll.
pub const LEASE_WAIT_MS_MAX: u64 = 20_000;
/// Longest delay of a nack.
pub const NACK_DELAY_MS_MAX: u64 = 7 * 24 * 3600 * 1000;
/// Bytes of a nack's reason.
pub const REASON_BYTES_MAX: usize = 512;
/// Highest `--max-attempts` that may be configured: bounds a message's history.
pub const ATTEMPTS_MAX: u32 = 1000;
/// Hooks that may be subscribed. An event is a record for each that wants it.
pub const HOOKS_MAX: usize = 100;
/// Bytes of a hook's URL: what servers commonly take.
pub const HOOK_URL_BYTES_MAX: usize = 2 << 10;
/// Deliveries that were taken and are still listed: the latest.
pub const DELIVERIES_KEPT_MAX: usize = 10_000;
/// Least time between two sweeps for dead letters that only a lapse has made: leases that lapse
/// one after the other are told of together.
pub const DEATHS_SWEEP_MS_MIN: u64 = 50;
/// Dead letters that one record tells of.
pub const DEATHS_ANNOUNCED_MAX: usize = 100;
/// Attempts kept in a message's history: the latest ones.
pub const HISTORY_MAX: usize = 16;
/// Steps of a trail that are kept once a snapshot covers them, and shown: the latest ones.
pub const TRAIL_STEPS_MAX: usize = 64;
/// Ids in one redrive or purge.
pub const REDRIVE_IDS_MAX: usize = 1000;
/// Rows of one list response.
pub const PAGE_MAX: usize = 1000;
/// Rows of a list response when the caller names no limit.
pub const PAGE_DEFAULT: usize = 100;
/// Rows fetched at once for a page: no more than so many of the largest formulas are in memory.
pub const PAGE_STEP: usize = 32;
/// Bytes of a page after which it ends early, with a cursor.
pub const PAGE_BYTES_MAX: usize = 8 << 20;
/// Bytes of all pages and other large responses that clients have not read yet. Past it pages
/// end early, with a cursor, and other large responses are refused.
pub const PAGES_BYTES_MAX: usize = 64 << 20;
/// Records read for one page of a filtered list; the cursor goes on from there.
pub const PAGE_SCAN_MAX: usize = 20_000;
/// Records that a list looks at in one go on the thread that waits for the disk: a millisecond's
/// worth, so that others get their turn.
pub const SCAN_PIECE_RECORDS: usize = 512;
/// Bytes of a queue's name.
pub const QUEUE_NAME_BYTES_MAX: usize = 64;

// ---- engine -------------------------------------------------------------------------------

/// Commands waiting for the writer. Twice the connections that may each have one under way.
pub const COMMANDS_MAX: usize = 4096;
/// Threads that read what is not in the page cache. A disk serves so many reads in little more
/// than the time of one, and more threads would only wait for each other.
pub const READER_THREADS: usize = 8;
/// Seconds that the writer stays awake for the next command after a small batch. About what a
/// client close by takes from its answer to its next request; to sleep and be woken costs more
/// than half of that. It gives way to every other thread that could run.
pub const WRITER_AWAKE_S: f64 = 100e-6;
/// Commands in a batch that is small. Behind larger ones the processors have other work: staying
/// awake gained nothing there (`docs/PERFORMANCE.md`, *What was tried*).
pub const SMALL_BATCH_COMMANDS: usize = 4;
/// Commands in one group commit: past it the next batch begins, so that replies flow.
pub const BATCH_COMMANDS_MAX: usize = 1024;
/// Bytes appended before a batch is synced even when more commands wait. A sync of so many costs
/// little more than one of a single frame; without this bound the chunks of a bulk load are
/// synced together, and network and writer wait for one another by turns.
pub const BATCH_LOG_BYTES_MAX: usize = 64 << 10;
/// Payload bytes handed from the reading to the applying thread at once in replay.
pub const REPLAY_BATCH_BYTES: usize = 256 << 10;
/// Batches that the reading thread may be ahead in replay.
pub const REPLAY_BATCHES_MAX: usize = 8;
/// Records of leases and acks that a walk along trails keeps taken apart: neighbours in the log
/// were mostly touched by the same few.
pub const STEP_RECORDS_MAX: usize = 64;
/// Bytes of log since the last snapshot below which no new one is due: replaying so many takes
/// half a second.
pub const SNAPSHOT_WINDOW_BYTES_MIN: u64 = 128 << 20;
/// Segments' worth of bytes that a snapshot leaves free on the disk: the log turns to its next
/// segment and prepares the one after it while the snapshot is written, and intake comes first.
pub const SNAPSHOT_LEAVES_SEGMENTS: u64 = 2;
/// Log since the last snapshot, as a multiple of its bytes, from which a new one is due.
pub const SNAPSHOT_RATIO_PERCENT_DEFAULT: u32 = 100;
/// What may be configured instead, in percent. Below a tenth nearly all writing is copying.
pub const SNAPSHOT_RATIO_PERCENTS: std::ops::RangeInclusive<u32> = 10..=10_000;
/// Niceness of the compactor's thread, the highest there is: it takes what the others leave.
/// Measured under full load on two processors, it comes to its end a quarter later than with 10,
/// and the p99 of a POST meanwhile is 1.3 times that without it instead of 2.3 times.
pub const COMPACTOR_NICENESS: i32 = 19;
/// How long the thread that frees what a snapshot has made superfluous stays on after it: twice
/// the second for which mimalloc keeps freed memory before it gives it back to the system.
pub const FREED_MEMORY_STAYS_MS: u64 = 2000;
/// Records between two `Digest` records.
pub const STATE_HASH_EVERY: u64 = 4096;
/// Layers of the state that are laid aside. More than one wait only when snapshots came to
/// nothing; every look-up goes through all of them, so then two are merged.
pub const STATE_LAYERS_MAX: usize = 8;
/// Bytes of one entry of a state's image: a message with its whole history has some 10 KiB, a
/// transaction all its nodes and the answer to its request.
pub const IMAGE_ENTRY_BYTES_MAX: usize = 128 << 10;
/// Quiet time after which the log is marked with its last durable LSN.
pub const IDLE_MARK_MS: u64 = 15;
/// Longest wait that a client may prefer: as long as a snapshot of the largest store takes.
pub const PREFER_WAIT_S_MAX: u64 = 3600;
/// `Retry-After` of a 503 for a full command queue.
pub const OVERLOAD_RETRY_AFTER_S: u64 = 1;
/// Decisions on one submission, of which each but the last named a formula that was gone before
/// it could be shown. Each needs a withdrawal and a snapshot of its own: one is rare.
pub const DECISIONS_MAX: u32 = 4;
/// How long an idempotency key is remembered unless configured.
pub const IDEMPOTENCY_RETENTION_MS_DEFAULT: u64 = 24 * 3600 * 1000;
/// Shortest retention that may be configured: a key is remembered for a moment at least.
pub const IDEMPOTENCY_RETENTION_MS_MIN: u64 = 1;
/// Longest retention that may be configured: every remembered key costs memory.
pub const IDEMPOTENCY_RETENTION_MS_MAX: u64 = 90 * 24 * 3600 * 1000;

// ---- log ----------------------------------------------------------------------------------

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 48;
/// Frames begin at multiples of this.
pub const FRAME_ALIGN: usize = 8;
/// Bytes of one record's payload: the largest body, its text stored whole, with room to spare.
pub const PAYLOAD_BYTES_MAX: usize = 4 << 20;
/// Bytes of a record as a snapshot keeps it: the payload, and each step of its trail with the
/// longest reason and queue name, or with all nodes.
pub const ARCHIVED_BYTES_MAX: usize = PAYLOAD_BYTES_MAX
    + TRAIL_STEPS_MAX
        * (REASON_BYTES_MAX + QUEUE_NAME_BYTES_MAX + 64 + NODES_MAX * (NODE_URL_BYTES_MAX + 16));
/// Default size of a segment.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// Smallest segment that may be configured. A group that needs more gets a larger one.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Largest segment that may be configured: offsets are kept as u32 multiples of 8.
pub const SEGMENT_BYTES_MAX: u64 = 4 << 30;
/// Bytes of a segment's header: one page, so that no later write shares a page with it.
pub const SEGMENT_HEADER_BYTES: usize = 4096;
/// Bytes that a disk writes whole or not at all. 512 also holds for disks with larger sectors.
pub const SECTOR_BYTES: usize = 512;
/// Bytes read at once while scanning.
pub const SCAN_CHUNK_BYTES: usize = 1 << 20;
/// Zeros written and synced at once while filling a segment. A sync of the log that comes at
/// the same time waits for so many at most.
pub const FILL_CHUNK_BYTES: usize = 256 << 10;
/// Segments whose files stay open for reading; older ones are opened for each read. Far below
/// the 1024 descriptors that a process has by default, most of which connections need.
pub const SEGMENT_FILES_OPEN_MAX: usize = 128;
/// Pause after the disk was too full for the next segment, before it is tried again.
pub const SPARE_RETRY_MS: u64 = 1000;
/// Bytes of a snapshot's block of records before they are compressed, if more than one record
/// is in it. Larger blocks are smaller on the disk, but each read of one record unpacks one:
/// with 4 KiB a snapshot has 0.47 of its formulas' JSON and a block takes 3 µs; with 8 KiB blocks
/// have 0.33 instead of 0.37 and take 7 µs.
pub const SNAPSHOT_BLOCK_BYTES: usize = 4 << 10;
/// Bytes of one record in a snapshot: the largest payload, and the trail kept with it.
pub const SNAPSHOT_RECORD_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + (512 << 10);
/// Bytes that a block may unpack to: the largest record alone, and its prefix. What a damaged
/// disk says beyond that is not believed.
pub const SNAPSHOT_BLOCK_BYTES_MAX: usize = SNAPSHOT_RECORD_BYTES_MAX + 8;
/// Bytes of a snapshot written and synced at once. A sync of the log that comes at the same time
/// waits for so many at most.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 << 10;
/// Bytes of a snapshot read first by a stream; each further piece is twice as large, up to
/// `SCAN_CHUNK_BYTES`. Holds a short list's records.
pub const SNAPSHOT_PIECE_BYTES_MIN: usize = 16 << 10;
/// Bits of a snapshot's filter for each key: with `FILTER_PROBES` 1.01 % of the absent keys pass
/// (measured: 1,011 of 100,000, in a filter filled to its bound of 100,000), and ten million
/// keys take 12 MB of memory.
pub const FILTER_BITS_PER_ENTRY: u64 = 10;
/// Bits of the filter that are set for a key: the best number for ten bits per key is 6.9.
pub const FILTER_PROBES: usize = 7;

// ---- http ---------------------------------------------------------------------------------

/// Header lines of a request.
pub const HEADERS_MAX: usize = 64;
/// Bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 32 << 10;
/// Bytes of a request target before it is refused with 414.
pub const TARGET_BYTES_MAX: usize = 8 << 10;
/// Tokens in a token file: each request is compared with every one.
pub const TOKENS_MAX: usize = 1000;
/// Bytes of a token's name.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;
/// Open connections.
pub const CONNECTIONS_MAX: usize = 2048;
/// Descriptors that connections never get: for the segments that stay open, for connections
/// that are told that there are too many, for those to partner nodes, and for what rotation, SUPER
/// and the runtime open. A log that cannot open a file has failed, so no client may be able to
/// bring that about.
pub const DESCRIPTORS_RESERVED: usize =
    SEGMENT_FILES_OPEN_MAX + REFUSALS_MAX + NODE_CONNECTIONS_MAX + 64;
/// Open connections of one address.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1024;
/// Requests on one connection before it is closed, so that load spreads after a fail-over.
pub const REQUESTS_PER_CONNECTION_MAX: u64 = 1_000_000;
/// Time for a request's head to arrive.
pub const HEAD_DEADLINE_MS: u64 = 10_000;
/// Time for a body to begin and, at the minimum rate, to go on.
pub const BODY_DEADLINE_MS: u64 = 10_000;
/// A body slower than this, after its first `BODY_DEADLINE_MS`, is cut off.
pub const BODY_BYTES_PER_S_MIN: u64 = 1024;
/// Time without progress after which a response that nobody reads is given up; and the time
/// that all waits of a response may take beyond what its bytes take at the minimum rate.
pub const WRITE_DEADLINE_MS: u64 = 20_000;
/// A response that is read more slowly, after its first `WRITE_DEADLINE_MS`, is given up.
pub const RESPONSE_BYTES_PER_S_MIN: u64 = 1024;
/// An idle keep-alive connection is closed after this.
pub const KEEP_ALIVE_MS: u64 = 75_000;
/// Bytes read from a connection at once: one head with one formula, many times over.
pub const INBOX_BYTES: usize = 16 << 10;
/// Bytes that hyper buffers in each direction of a connection.
pub const CONNECTION_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Bytes of a response that are handed to hyper at once, which copies them into the buffer of
/// the connection.
pub const RESPONSE_PIECE_BYTES: usize = 16 << 10;
/// Bytes of a response that are not charged to a budget: nearly all responses are smaller, and
/// `CONNECTIONS_MAX` of them are no more than 32 MiB.
pub const RESPONSE_BYTES_FREE: usize = 16 << 10;
/// How long a refused client is listened to, so that it can read why before the reset.
pub const LINGER_MS: u64 = 2_000;
/// Connections over a cap that are told so; more are just closed.
pub const REFUSALS_MAX: usize = 64;
/// Connections that the kernel holds until they are accepted.
pub const BACKLOG: i32 = 1024;
/// Pause after an accept that failed for want of descriptors or memory.
pub const ACCEPT_BACKOFF_MS: u64 = 100;
/// Time between two events that say so.
pub const ACCEPT_EVENT_MS: u64 = 1_000;
/// Time for requests under way at SIGTERM. Kubernetes kills after 30 s.
pub const DRAIN_MS: u64 = 25_000;
/// Time for requests under way when the log has failed: enough to tell each that its outcome is
/// unknown, and short, since only a restart can help.
pub const FAILED_DRAIN_MS: u64 = 1000;

// ---- calls to others ----------------------------------------------------------------------

/// Bytes of a URL that is to be called, as sent and in its normal form.
pub const URL_BYTES_MAX: usize = 2048;
/// Bytes of a host's name, without the dot at its end: what DNS can carry.
pub const HOST_NAME_BYTES_MAX: usize = 253;
/// Bytes between two dots of it: likewise.
pub const HOST_LABEL_BYTES_MAX: usize = 63;
/// Look-ups of names that one client has under way: each is a thread, and the system may take
/// half a minute to give up on a name server that is silent.
pub const LOOKUPS_MAX: usize = 16;
/// Addresses of one name that are dialled: with `DIAL_STAGGER_MS` between them more would not
/// have their turn within the time for a connection.
pub const DIAL_ADDRESSES_MAX: usize = 8;
/// Time after which the next address of a name is tried beside those that have not answered:
/// what RFC 8305 recommends.
pub const DIAL_STAGGER_MS: u64 = 250;
/// Time for any connection to come about, also one that nobody waits for any more.
pub const CONNECT_MS_MAX: u64 = 10_000;
/// Header lines of an answer.
pub const ANSWER_HEADERS_MAX: usize = 100;
/// How far a wait between tries is spread to both sides, in percent.
pub const BACKOFF_SPREAD_PERCENT: u8 = 10;
/// Longest wait that another server can ask for: it is not to put us off for ever.
pub const RETRY_AFTER_MS_MAX: u64 = 3600 * 1000;
/// Bits of the authority's public key. Below, a signature proves nothing any more.
pub const AUTHORITY_KEY_BITS_MIN: usize = 2048;
/// And above, the library does not verify: it would take long, and nobody uses them.
pub const AUTHORITY_KEY_BITS_MAX: usize = 8192;
/// Bytes of the file that holds it: a key of 8192 bits takes less than 2 KiB.
pub const AUTHORITY_KEY_BYTES_MAX: usize = 64 << 10;
/// Bytes of a secret that signs deliveries: what Standard Webhooks says.
pub const HOOK_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Signatures that are compared when a delivery is verified: a sender that rotates sends two.
pub const HOOK_SIGNATURES_MAX: usize = 16;
/// How far the clocks of sender and receiver of a delivery may differ: what Standard Webhooks
/// recommends.
pub const HOOK_TOLERANCE_S: u64 = 300;

// ---- backups ------------------------------------------------------------------------------

/// Backups that are sent at once: one by the clock and one by hand. Each is a thread that reads
/// the whole store, beside which clients have to be served.
pub const BACKUPS_MAX: usize = 2;
/// `Retry-After` of a 503 for one more. A backup takes minutes, but may be given up at any time.
pub const BACKUP_RETRY_AFTER_S: u64 = 10;
/// Bytes that are read and sent at once in a backup: few reads, and little memory per client.
pub const BACKUP_CHUNK_BYTES: usize = 256 << 10;
/// Pieces of a backup that wait for the network: the disk is read while the client reads.
pub const BACKUP_CHUNKS_MAX: usize = 4;
/// Files in a backup, the manifest included: four terabytes in segments of the usual size.
pub const ARCHIVE_MEMBERS_MAX: usize = 65_536;
/// Bytes of a backup's manifest, and of its sums, that a reader takes into memory.
pub const ARCHIVE_TEXT_BYTES_MAX: u64 = 16 << 20;
/// Bytes of SUPER or WATERMARK in a backup: pages that are read whole, with room to grow.
pub const ARCHIVE_SMALL_FILE_BYTES_MAX: u64 = 64 << 10;

// ---- command line -------------------------------------------------------------------------

/// Bytes of a configuration file. One that sets everything with comments has a few KiB.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Bytes of formulas that `submit` sends in one request, if `CLIENT_CHUNK_LINES` come to less.
pub const CLIENT_CHUNK_BYTES: usize = 2 << 20;
/// Formulas that `submit` sends in one request: some group commits' worth, so that the round
/// trip hardly counts, and few enough that a retry repeats little.
pub const CLIENT_CHUNK_LINES: usize = 4 * NDJSON_CHUNK_LINES;
/// Bytes of a response that the client takes. A page of `PAGE_MAX` formulas of 64 KiB fits; the
/// answer to a chunk repeats it and adds a few hundred bytes a line.
pub const CLIENT_RESPONSE_BYTES_MAX: usize = 64 << 20;
/// Time for a call of the client, from connecting to the last byte. Above `LEASE_WAIT_MS_MAX`.
pub const CLIENT_DEADLINE_MS: u64 = 60_000;
/// Calls that the client makes in all before it gives up on a failure that may pass.
pub const CLIENT_ATTEMPTS: u32 = 3;
/// Wait before the second of these calls; it doubles from call to call.
pub const CLIENT_BACKOFF_BASE_MS: u64 = 1000;
/// Longest wait between two of these calls.
pub const CLIENT_BACKOFF_CAP_MS: u64 = 10_000;
/// Bytes of an exported formula: as long as it was sent, and the members that the store adds.
pub const EXPORT_LINE_BYTES_MAX: usize = NDJSON_LINE_BYTES_MAX + 1024;
/// Formulas that `import` stores at once, as one durable group.
pub const IMPORT_CHUNK_LINES: usize = BATCH_ITEMS_MAX;
/// Bytes of formulas after which it stores them before they are so many.
pub const IMPORT_CHUNK_BYTES: usize = 2 << 20;
/// Seconds that the client asks a server to wait within one call. Far enough below
/// `CLIENT_DEADLINE_MS` that an answer given at the last moment still arrives.
pub const CLIENT_PREFER_WAIT_S_MAX: u64 = 30;
/// Wait before the client asks again for what is not at an end; it doubles from time to time.
pub const CLIENT_POLL_BASE_MS: u64 = 100;
/// Longest such wait: nobody notices two seconds in a wait that is that long already.
pub const CLIENT_POLL_CAP_MS: u64 = 2000;
/// Formulas after which the progress of an export is shown anew.
pub const EXPORT_PROGRESS_EVERY: u64 = 1024;
/// Invalid formulas that `submit` describes; more are counted.
pub const CLIENT_FAULTS_SHOWN: usize = 10;

const _: () = assert!(NAME_BYTES_MAX == 4 * NAME_CHARS_MAX);
const _: () = assert!(BODY_BYTES_MAX < PAYLOAD_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX > BODY_BYTES_MAX);
const _: () = assert!(NDJSON_BEGUN_BYTES_FREE * CONNECTIONS_MAX <= 32 << 20);
const _: () = assert!(NDJSON_CHUNK_LINES <= BATCH_ITEMS_MAX);
const _: () = assert!(NDJSON_CHUNK_BYTES + NDJSON_LINE_BYTES_MAX <= BATCH_BYTES_MAX);
const _: () = assert!(PARSE_INLINE_BYTES_MAX < BODY_BYTES_MAX);
const _: () = assert!(PAGE_STEP <= PAGE_MAX);
const _: () = assert!(BODIES_BYTES_MAX >= 4 * BATCH_BYTES_MAX);
const _: () = assert!(PAGES_BYTES_MAX >= 4 * PAGE_BYTES_MAX);
const _: () = assert!(RESPONSE_BYTES_FREE * CONNECTIONS_MAX <= 32 << 20);
const _: () = assert!(RESPONSE_PIECE_BYTES <= CONNECTION_BUFFER_BYTES_MAX);
const _: () = assert!(SETTLE_BYTES_MAX >= LEASE_MESSAGES_MAX * 128 + REASON_BYTES_MAX);
const _: () = assert!(COMMANDS_MAX >= 2 * CONNECTIONS_MAX);
const _: () = assert!(BATCH_COMMANDS_MAX <= COMMANDS_MAX);
const _: () = assert!(SMALL_BATCH_COMMANDS <= BATCH_COMMANDS_MAX);
const _: () = assert!(WRITER_AWAKE_S * 1e3 < IDLE_MARK_MS as f64);
const _: () = assert!(CONNECTIONS_PER_ADDRESS_MAX <= CONNECTIONS_MAX);
const _: () = assert!(CONNECTION_BUFFER_BYTES_MAX > HEAD_BYTES_MAX);
const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(LINGER_MS < DRAIN_MS);
const _: () = assert!(LEASE_WAIT_MS_MAX < DRAIN_MS);
const _: () = assert!(IDEMPOTENCY_RETENTION_MS_MIN > 0);
const _: () = assert!(IDEMPOTENCY_RETENTION_MS_DEFAULT <= IDEMPOTENCY_RETENTION_MS_MAX);
const _: () = assert!(NDJSON_LINE_BYTES_MAX <= CLIENT_CHUNK_BYTES);
const _: () = assert!(IMPORT_CHUNK_BYTES + EXPORT_LINE_BYTES_MAX <= BATCH_BYTES_MAX);
const _: () = assert!(CLIENT_RESPONSE_BYTES_MAX > 2 * (CLIENT_CHUNK_BYTES + BODY_BYTES_MAX));
const _: () = assert!(CLIENT_DEADLINE_MS > LEASE_WAIT_MS_MAX);
// A line of the sums: 64 digits, and a name of up to 40 bytes; one of the manifest is as long.
const _: () = assert!(ARCHIVE_MEMBERS_MAX as u64 * 128 <= ARCHIVE_TEXT_BYTES_MAX);
const _: () = assert!(CLIENT_BACKOFF_BASE_MS <= CLIENT_BACKOFF_CAP_MS);
const _: () = assert!(CLIENT_PREFER_WAIT_S_MAX * 1000 < CLIENT_DEADLINE_MS);
const _: () = assert!(CLIENT_PREFER_WAIT_S_MAX <= PREFER_WAIT_S_MAX);
const _: () = assert!(STATE_LAYERS_MAX > 0);
const _: () = assert!(IMAGE_ENTRY_BYTES_MAX >= 2 * HISTORY_MAX * (REASON_BYTES_MAX + 64));
const _: () = assert!(IMAGE_ENTRY_BYTES_MAX >= 2 * HOOK_URL_BYTES_MAX);
const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(FRAME_ALIGN));
const _: () = assert!(SEGMENT_BYTES_MAX / FRAME_ALIGN as u64 <= u32::MAX as u64);
const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(FRAME_ALIGN));
const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(SECTOR_BYTES));
const _: () = assert!(SEGMENT_BYTES_MIN > SEGMENT_HEADER_BYTES as u64);
const _: () = assert!(SNAPSHOT_BLOCK_BYTES < SNAPSHOT_BLOCK_BYTES_MAX);
const _: () = assert!(ARCHIVED_BYTES_MAX < SNAPSHOT_RECORD_BYTES_MAX);
const _: () = assert!(SNAPSHOT_PIECE_BYTES_MIN <= SCAN_CHUNK_BYTES);
const _: () = assert!(FILTER_PROBES * 9 <= u128::BITS as usize);
const _: () = assert!(SCAN_CHUNK_BYTES.is_multiple_of(SECTOR_BYTES));
