// Package frame is the wire format between two nodes: pure encoding and decoding, no I/O.
package frame

import "drship/internal/block"

// Version is the wire version of this build; both sides must have it in common.
const Version = 2

// Type tells messages apart on the wire. The numbers are part of the format: never renumber them.
type Type uint8

// The message types.
const (
	TypeState       Type = 1  // control lane
	TypeBitmap      Type = 2  // control
	TypeBitmapEnd   Type = 3  // control
	TypeStreamStart Type = 4  // data lane, so that it is ordered with batches
	TypeBatch       Type = 5  // data
	TypeChunk       Type = 6  // data
	TypeQuery       Type = 7  // data
	TypeResyncEnd   Type = 8  // data
	TypeAck         Type = 9  // control
	TypeChunkAck    Type = 10 // control
	TypeQueryReply  Type = 11 // control
	TypeResend      Type = 12 // control
	TypeResyncDone  Type = 13 // control
	TypeRequest     Type = 14 // control
	TypeReply       Type = 15 // control
	TypePing        Type = 16 // control, kept inside the session
	TypePong        Type = 17 // control, kept inside the session
	TypeVerify      Type = 18 // data
	TypeVerifyReply Type = 19 // control
	TypeIO          Type = 20 // data
	TypeIOReply     Type = 21 // data
	TypePeers       Type = 22 // data; only where a resource has more than one peer
	TypeSwitch      Type = 30 // data, kept inside the session
	TypeStripes     Type = 31 // control, kept inside the session
	TypeOffer       Type = 23 // control
)

// Message is one message of the protocol. Encoding never fails for a message that Validate accepts; decoding refuses
// unknown types, lengths over their bounds, trailing bytes and values out of range.
type Message interface {
	Type() Type
}

// UUIDs are DRBD's generation identifiers as one side has them for the other, lowest bit "was Primary".
type UUIDs struct {
	Current uint64
	Bitmap  uint64
	History [2]uint64
}

// VolumeState is what one side says of one of its volumes.
type VolumeState struct {
	Volume uint16
	Disk   uint8 // state.Disk
	Size   int64 // bytes usable here
	UUIDs  UUIDs
	OOS    uint64 // blocks set in the bitmap it keeps against the other
}

// State is what each side tells the other first, and again whenever something in it changes.
type State struct {
	Role     uint8 // state.Role
	Flags    uint32
	Position block.Seq // last record that is part of this side's data, staged or written here
	Protocol uint8     // 'A', 'B', 'C'
	Volumes  []VolumeState
	Serial   uint64      // counts the states of this session, from 1
	Policies uint64      // state.Policies.Word: both sides must go by the same rules
	Older    [][6]uint64 // by volume, with FlagOlder: what fell out of the history of its identifiers
	Written  int64       // when this side last took a write of a client, Unix nanoseconds; 0 where it does not know
	DiskRate int64       // what the slowest of this side's disks moves, bytes a second, as measured; 0 where it does not know
}

// Flags of State.
const (
	FlagCrashedPrimary uint32 = 1 << iota
	FlagDiscardMyData
	FlagTentative
	FlagPausedByUser
	FlagPausedByDependency
	FlagTie // exactly one side of a session has it: the one that dialled
	FlagAhead
	FlagGoingAway // orderly disconnect: not a failure
	FlagReplicationPaused
	FlagWantFullSync // invalidate / invalidate-remote set the whole map
	FlagGrew         // a volume grew on the peer's word, and the peer was not seen with its new size yet
	FlagRemote       // Primary whose clients use the peer's data: it has no good disk of its own
	FlagFollows      // a third node ships to this side at the moment. This and the next: only where there are several peers
	FlagOlder        // Older follows
	FlagReceived     // this side's data came from a source: what it says of others is hearsay
	FlagFetches      // what is not UpToDate here is fetched from peers, while this side writes: it is no target for it
	FlagNoDisk       // every disk here is gone, and what they lack is noted: what is compared counts as Inconsistent, not as Diskless
)

// FlagCarried says that the data here was carried over from the peer's and nothing happened to it since create-md. It counts from the
// other end, so that it is in nobody's way.
const FlagCarried uint32 = 1 << 31

// Bitmap carries one page of a bitmap: 65,536 blocks of one volume, in roaring's portable form.
type Bitmap struct {
	Volume uint16
	Page   uint32
	Bits   []byte // at most MaxBitmapPage bytes
}

// BitmapEnd closes the exchange of bitmaps.
type BitmapEnd struct{ Blocks uint64 }

// Mode says how the source brings the target up to date.
type Mode uint8

// The modes of a stream.
const (
	ModeJournal Mode = 1 // the journal holds everything behind From: the replica stays consistent
	ModeResync  Mode = 2 // blocks differ beside the journal: Inconsistent (with a way back) until ResyncEnd
	ModeAhead   Mode = 3 // nothing is sent until further notice: the target is Behind, and consistent
)

// StreamStart opens, or changes, the replication stream. Everything behind it on the data lane belongs to it.
type StreamStart struct {
	Mode   Mode
	From   block.Seq // the target's position from now on; the first batch follows it
	Blocks uint64    // ModeResync: blocks to come
	Volume []VolumeState
	UUIDs  []UUIDs // per entry of Volume: what the target takes over (ModeJournal at once, ModeResync at its end)
	Keep   bool    // ModeResync: the target keeps pre-images, so that it can go back
}

// Codec says how a payload is packed.
type Codec uint8

// The codecs.
const (
	CodecRaw  Codec = 0
	CodecZstd Codec = 1
	CodecS2   Codec = 2

	// CodecReduced is a payload that builds on earlier batches and on what the receiver has. It is never stored.
	CodecReduced Codec = 3
)

// Batch carries consecutive records, applied as one atom.
type Batch struct {
	Prev    block.Seq // the position that it follows
	Last    block.Seq // the position after it
	Time    int64     // when its first record was accepted, Unix nanoseconds
	Records uint32    // records after folding
	Folded  uint32    // records that folding removed
	Codec   Codec
	Digest  uint8  // digest.Alg of the records
	RawLen  uint32 // bytes of Payload once unpacked
	Payload []byte // see package reduce
}

// Chunk carries blocks of a resync or of a repair. It may be applied at once, at its place in the stream.
type Chunk struct {
	ID     uint64 // of the source, counts from 1 in a session
	Volume uint16
	Off    int64
	Len    uint32
	Zero   bool // no data: the range is zeroes
	Codec  Codec
	Digest uint8
	Sum    []byte // over the unpacked data
	Data   []byte
}

// ChunkAck says that chunks are on the target's disk, flushed.
type ChunkAck struct {
	IDs []uint64 // done
	Bad []uint64 // digest did not match: send them again
}

// Query asks the target which blocks of a run differ: one digest a block of block.Size.
type Query struct {
	ID     uint64
	Volume uint16
	Off    int64
	Len    uint32
	Digest uint8
	Sums   []byte
}

// QueryReply answers a Query: bit i set means that block i of the run differs.
type QueryReply struct {
	ID     uint64
	Differ []byte
}

// ResyncEnd says that no chunk is outstanding: once the target has applied At it is consistent and up to date.
type ResyncEnd struct{ At block.Seq }

// ResyncDone answers ResyncEnd when the target has finished, durably.
type ResyncDone struct{ At block.Seq }

// Ack carries the target's marks: applied ≤ staged ≤ received.
type Ack struct {
	Received block.Seq
	Staged   block.Seq
	Applied  block.Seq
}

// Resend asks for everything behind From again: a digest did not match, or the chain broke.
type Resend struct {
	From   block.Seq
	Reason uint8
}

// Reasons of a Resend.
const (
	ResendDigest uint8 = 1
	ResendChain  uint8 = 2
	ResendCache  uint8 = 3 // what a reduced batch builds on is not here
)

// Request asks the peer to do something on an administrator's word.
type Request struct {
	ID   uint64
	Verb uint8
	Arg  uint64
}

// Verbs of a Request.
const (
	RequestSyncFromMe  uint8 = 1 // invalidate-remote: become my target, whole map
	RequestSyncToMe    uint8 = 2 // invalidate: become my source, whole map
	RequestPrimary     uint8 = 3 // I want to become Primary: refuse if you are
	RequestOutdate     uint8 = 4 // mark your data Outdated: I went on without you
	RequestNewUUIDs    uint8 = 5 // new-current-uuid --clear-bitmap
	RequestVerifyStart uint8 = 6
	RequestVerifyStop  uint8 = 7
	RequestRoom        uint8 = 8  // how large is your disk? Arg is the volume; the answer's Text is a number of bytes
	RequestGrow        uint8 = 9  // grow: Arg is the volume in its upper 16 bits, the size in sectors below, GrowClean beside
	RequestServe       uint8 = 10 // my disk is gone: carry out the requests of my clients. Arg is ServeMore or 0
	RequestHome        uint8 = 11 // my disk is good again: end RequestServe, once I have everything
)

// GrowClean in the Arg of RequestGrow says that what is new is equal on both sides, so that nothing needs a resync.
const GrowClean uint64 = 1 << 47

// ServeMore in the Arg of RequestServe says that the peer has served this side before, and must not have been Primary, or
// somebody else's target, since: it would not have what was written meanwhile.
const ServeMore uint64 = 1

// Reply answers a Request.
type Reply struct {
	ID   uint64
	Code int32 // 0, or one of DRBD's SS_ codes
	Text string
}

// Verify asks the target to compare a run with the digests sent, as Query does, in an online verify.
type Verify struct {
	ID     uint64
	Volume uint16
	Off    int64
	Len    uint32
	At     block.Seq // the source's position when it read the run: the target compares once it has applied it
	Digest uint8
	Sums   []byte
}

// VerifyReply answers a Verify: bit i set means that block i differs.
type VerifyReply struct {
	ID     uint64
	Differ []byte
}

// Op is what an IO asks for.
type Op uint8

// The operations of an IO.
const (
	OpRead     Op = 1
	OpWrite    Op = 2
	OpZero     Op = 3 // may give the space back
	OpZeroKept Op = 4 // keeps the space
	OpTrim     Op = 5
	OpFlush    Op = 6 // no range
)

// IO is one request of a client of a Primary without a disk, for its peer to carry out. Requests may be carried out in any order and are answered
// as they end; none that overlaps a write is sent before the write is answered.
type IO struct {
	ID     uint64 // of the Primary, not used twice in a session
	Op     Op
	Volume uint16
	Off    int64
	Len    uint32
	Digest uint8  // digest.Alg of Sum
	Sum    []byte // over Data
	Data   []byte // OpWrite only
}

// IOReply answers an IO. What was changed is on stable storage.
type IOReply struct {
	ID     uint64
	Code   IOCode
	Digest uint8
	Sum    []byte // over Data
	Data   []byte // OpRead only
}

// IOCode says how an IO ended.
type IOCode uint8

// The codes of an IOReply.
const (
	IODone    IOCode = 0
	IOFailed  IOCode = 1 // the disk failed
	IODamaged IOCode = 2 // the data did not match its digest: send it again
	IOGone    IOCode = 3 // this side does not serve any more
	IONoSpace IOCode = 4 // the disk is full
)

// Offer is the target's answer to a StreamStart: from now on it takes reduced batches, with a cache of up to Cache bytes. Nothing is
// reduced before it.
type Offer struct{ Cache uint64 }

// Ping and Pong keep a session alive and measure its round trip; Sent is the pinger's clock.
type Ping struct{ Sent int64 }

// Switch says, on the data lane, where what follows travels: over the stripes from Place on, or, among the stripes,
// over the data lane itself again.
type Switch struct{ Place int64 }

// Stripes says how many stripes the side that sends wants; the other one dials.
type Stripes struct{ Want uint16 }

// MaxStripes bounds the stripes of a session.
const MaxStripes = 128

// Pong answers a Ping.
type Pong struct{ Sent int64 }

// Type implements Message.
func (*State) Type() Type       { return TypeState }
func (*Bitmap) Type() Type      { return TypeBitmap }
func (*BitmapEnd) Type() Type   { return TypeBitmapEnd }
func (*StreamStart) Type() Type { return TypeStreamStart }
func (*Batch) Type() Type       { return TypeBatch }
func (*Chunk) Type() Type       { return TypeChunk }
func (*Query) Type() Type       { return TypeQuery }
func (*ResyncEnd) Type() Type   { return TypeResyncEnd }
func (*Ack) Type() Type         { return TypeAck }
func (*ChunkAck) Type() Type    { return TypeChunkAck }
func (*QueryReply) Type() Type  { return TypeQueryReply }
func (*Resend) Type() Type      { return TypeResend }
func (*ResyncDone) Type() Type  { return TypeResyncDone }
func (*Request) Type() Type     { return TypeRequest }
func (*Reply) Type() Type       { return TypeReply }
func (*Ping) Type() Type        { return TypePing }
func (*Switch) Type() Type      { return TypeSwitch }
func (*Stripes) Type() Type     { return TypeStripes }
func (*Pong) Type() Type        { return TypePong }
func (*Verify) Type() Type      { return TypeVerify }
func (*VerifyReply) Type() Type { return TypeVerifyReply }
func (*IO) Type() Type          { return TypeIO }
func (*IOReply) Type() Type     { return TypeIOReply }
func (*Offer) Type() Type       { return TypeOffer }
