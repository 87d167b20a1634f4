package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"

	"drship/internal/block"
	"drship/internal/digest"
)

func seq(e, n uint64) block.Seq { return block.Seq{Epoch: e, Num: n} }

// samples holds one message of every type with every field set.
func samples() []Message {
	u := UUIDs{Current: 1, Bitmap: 2, History: [2]uint64{3, 4}}
	vols := []VolumeState{{Volume: 0, Disk: 8, Size: 1 << 40, UUIDs: u, OOS: 7}, {Volume: 255, Disk: 4, Size: 4096, UUIDs: u}}
	sums := bytes.Repeat([]byte{0xab}, 4*digest.CRC32C.Size())
	return []Message{
		&State{Role: 1, Flags: FlagTie | FlagWantFullSync, Position: seq(5, 6), Protocol: 'C', Volumes: vols, Serial: 9, Policies: 0x0103020304, Written: -8, DiskRate: 180e6},
		&State{Role: 2, Flags: FlagFollows | FlagReceived | FlagFetches | FlagNoDisk | FlagOlder, Protocol: 'A', Volumes: vols, Older: [][6]uint64{{1, 2, 3, 4, 5, 6}, {7}}},
		&Bitmap{Volume: 3, Page: 77, Bits: []byte("roaring")},
		&BitmapEnd{Blocks: 12},
		&StreamStart{Mode: ModeResync, From: seq(1, 2), Blocks: 3, Volume: vols, UUIDs: []UUIDs{u, u}, Keep: true},
		&Batch{Prev: seq(1, 2), Last: seq(1, 5), Time: -4, Records: 3, Folded: 1, Codec: CodecZstd, Digest: 1, RawLen: 100, Payload: []byte("packed")},
		&Chunk{ID: 4, Volume: 1, Off: 8192, Len: 4096, Codec: CodecS2, Digest: 1, Sum: []byte("abcd"), Data: []byte("data")},
		&Query{ID: 1, Volume: 2, Off: 4096, Len: 3*4096 + 1, Digest: 1, Sums: sums},
		&ResyncEnd{At: seq(8, 9)},
		&Ack{Received: seq(3, 3), Staged: seq(3, 2), Applied: seq(2, 9)},
		&ChunkAck{IDs: []uint64{1, 2}, Bad: []uint64{3}},
		&QueryReply{ID: 5, Differ: []byte{1, 2}},
		&Resend{From: seq(4, 4), Reason: ResendChain},
		&ResyncDone{At: seq(8, 9)},
		&Request{ID: 6, Verb: RequestPrimary, Arg: 1 << 60},
		&Reply{ID: 6, Code: -19, Text: "Multiple primaries not allowed"},
		&Ping{Sent: -1},
		&Pong{Sent: 1 << 62},
		&Verify{ID: 1, Volume: 2, Off: 4096, Len: 4 * 4096, At: seq(1, 1), Digest: 1, Sums: sums},
		&VerifyReply{ID: 5, Differ: []byte{0x80}},
		&IO{ID: 6, Op: OpWrite, Volume: 3, Off: 4096, Len: 3, Digest: 1, Sum: []byte("abcd"), Data: []byte("new")},
		&IO{ID: 7, Op: OpZeroKept, Off: 1, Len: 64 << 20, Sum: []byte{}, Data: []byte{}},
		&IO{ID: 8, Op: OpFlush, Sum: []byte{}, Data: []byte{}},
		&IOReply{ID: 6, Code: IODamaged, Sum: []byte{}, Data: []byte{}},
		&IOReply{ID: 9, Digest: 1, Sum: []byte("abcd"), Data: []byte("old")},
		&Peers{UUIDs: []UUIDs{u, u}, Older: [][6]uint64{{1}, {0, 0, 0, 0, 0, 9}}, Others: []OtherPeer{{Name: "charlie", Bitmap: []uint64{7, 0}, InStep: true, Staged: seq(5, 6)}}},
		&Switch{Place: 1 << 40},
		&Stripes{Want: MaxStripes},
		&Offer{Cache: 64 << 20},
	}
}

func TestRoundTrip(t *testing.T) {
	covered := map[Type]bool{}
	for _, m := range samples() {
		if err := Validate(m); err != nil {
			t.Errorf("%v: %v", m.Type(), err)
		}
		b := Append([]byte("before"), m)
		if !bytes.HasPrefix(b, []byte("before")) {
			t.Errorf("%v: Append lost what stood before", m.Type())
		}
		got, err := Parse(b[len("before"):])
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%v: %+v, %v; want %+v", m.Type(), got, err, m)
		}
		head, tail := AppendHead(nil, m)
		if joined := append(head, tail...); !bytes.Equal(joined, b[len("before"):]) {
			t.Errorf("%v: head and tail are not the frame", m.Type())
		}
		covered[m.Type()] = true
	}
	for ty := Type(0); ty < 255; ty++ {
		if ty.known() != covered[ty] || (MaxBody(ty) > 0) != covered[ty] {
			t.Errorf("%v: known %v, covered %v", ty, ty.known(), covered[ty])
		}
	}
}

func TestLanes(t *testing.T) {
	data := "StreamStart Batch Chunk Query ResyncEnd Verify IO IOReply Peers Switch"
	for _, m := range samples() {
		want := Control
		if strings.Contains(" "+data+" ", " "+m.Type().String()+" ") {
			want = Data
		}
		if got := LaneOf(m); got != want {
			t.Errorf("%v goes to the %v lane", m.Type(), got)
		}
	}
}

// Every frame cut short, every one with a byte too many, is refused.
func TestLengthsAreExact(t *testing.T) {
	for _, m := range samples() {
		switch m.Type() {
		case TypeBatch, TypeChunk, TypeIOReply: // their tail takes what the header says; the length is checked in validate
			continue
		}
		body := Append(nil, m)[HeaderSize:]
		for n := range body {
			if got, err := Decode(m.Type(), body[:n]); !errors.Is(err, ErrFrame) {
				t.Errorf("%v cut to %d of %d bytes: %+v, %v", m.Type(), n, len(body), got, err)
			}
		}
		if _, err := Decode(m.Type(), append(body, 0)); !errors.Is(err, ErrFrame) {
			t.Errorf("%v with a byte too many: %v", m.Type(), err)
		}
	}
}

func TestRefused(t *testing.T) {
	ok := VolumeState{Disk: 8, Size: 1}
	for name, m := range map[string]Message{
		"role":                  &State{Role: 3, Protocol: 'A'},
		"protocol":              &State{Protocol: 'D'},
		"flags":                 &State{Protocol: 'A', Flags: 1 << 30},
		"volume number":         &State{Protocol: 'A', Volumes: []VolumeState{{Volume: 256}}},
		"volume twice":          &State{Protocol: 'A', Volumes: []VolumeState{ok, ok}},
		"disk state":            &State{Protocol: 'A', Volumes: []VolumeState{{Disk: 9}}},
		"size":                  &State{Protocol: 'A', Volumes: []VolumeState{{Size: -1}}},
		"older history":         &State{Protocol: 'A', Volumes: []VolumeState{ok}, Older: [][6]uint64{{1}}},
		"peers' older history":  &Peers{UUIDs: []UUIDs{{}}},
		"page":                  &Bitmap{Bits: make([]byte, MaxBitmapPage+1)},
		"page's volume":         &Bitmap{Volume: 256},
		"mode":                  &StreamStart{Mode: 4},
		"identifiers":           &StreamStart{Mode: ModeJournal, Volume: []VolumeState{ok}},
		"batch backwards":       &Batch{Prev: seq(2, 1), Last: seq(1, 9)},
		"batch of nothing":      &Batch{Prev: seq(2, 1), Last: seq(2, 1)},
		"raw length":            &Batch{Last: seq(1, 1), Codec: CodecZstd, RawLen: MaxRaw + 1},
		"raw batch's length":    &Batch{Last: seq(1, 1), RawLen: 3, Payload: []byte("four")},
		"packed longer":         &Batch{Last: seq(1, 1), Codec: CodecZstd, RawLen: 3, Payload: []byte("four")},
		"codec":                 &Batch{Last: seq(1, 1), Codec: 4},
		"chunk that is reduced": &Chunk{Len: 1, Codec: CodecReduced, Data: []byte("d")},
		"reduced longer":        &Batch{Last: seq(1, 1), Codec: CodecReduced, RawLen: 3, Payload: make([]byte, 4+ReducedSlack)},
		"digest":                &Batch{Last: seq(1, 1), Digest: 8},
		"chunk's sum":           &Chunk{Len: 1, Digest: 1, Sum: []byte("abc"), Data: []byte("d")},
		"chunk's length":        &Chunk{Len: 2, Data: []byte("d")},
		"chunk of nothing":      &Chunk{},
		"chunk too long":        &Chunk{Len: MaxChunk + 1, Codec: CodecZstd},
		"chunk's offset":        &Chunk{Off: -1, Len: 1, Data: []byte("d")},
		"chunk over the edge":   &Chunk{Off: 1<<63 - 1, Len: 1, Data: []byte("d")},
		"chunk's volume":        &Chunk{Volume: 300, Len: 1, Data: []byte("d")},
		"zeroes with data":      &Chunk{Zero: true, Len: 1, Data: []byte("d")},
		"zeroes too long":       &Chunk{Zero: true, Len: MaxZeroChunk + 1},
		"query's sums":          &Query{Len: 4097, Digest: 1, Sums: []byte("abcd")},
		"query without digest":  &Query{Len: 4096},
		"query off the grid":    &Query{Off: 512, Len: 4096, Digest: 1, Sums: []byte("abcd")},
		"verify's digest":       &Verify{Len: 4096, Digest: 9, Sums: []byte("abcd")},
		"marks":                 &Ack{Received: seq(1, 1), Staged: seq(1, 2)},
		"marks, applied":        &Ack{Received: seq(1, 2), Staged: seq(1, 1), Applied: seq(1, 2)},
		"chunk ids":             &ChunkAck{IDs: make([]uint64, MaxChunkIDs+1)},
		"answer":                &QueryReply{Differ: make([]byte, maxRunBlocks/8+1)},
		"reason":                &Resend{},
		"verb":                  &Request{Verb: RequestHome + 1},
		"operation":             &IO{Op: 7, Len: 1},
		"read with data":        &IO{Op: OpRead, Len: 1, Data: []byte("d")},
		"write without its end": &IO{Op: OpWrite, Len: 2, Data: []byte("d")},
		"write's sum":           &IO{Op: OpWrite, Len: 1, Digest: 1, Data: []byte("d")},
		"write too long":        &IO{Op: OpWrite, Len: MaxIO + 1, Data: make([]byte, MaxIO+1)},
		"trim too long":         &IO{Op: OpTrim, Len: MaxZeroIO + 1},
		"flush of a range":      &IO{Op: OpFlush, Len: 1},
		"answer's code":         &IOReply{Code: 5},
		"failure with data":     &IOReply{Code: IOFailed, Data: []byte("d")},
		"answer too long":       &IOReply{Data: make([]byte, MaxIO+1)},
		"reply's text":          &Reply{Text: strings.Repeat("x", MaxReplyText+1)},
		"peer without a name":   &Peers{Others: []OtherPeer{{}}},
		"peer's identifiers":    &Peers{Others: []OtherPeer{{Name: "bob", Bitmap: []uint64{1}}}},
		"too many peers":        &Peers{Others: make([]OtherPeer, MaxPeers+1)},
		"reply that is no text": &Reply{Text: "\xff"},
	} {
		if err := Validate(m); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: Validate = %v", name, err)
		}
		if got, err := Parse(Append(nil, m)); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: Parse = %+v, %v", name, got, err)
		}
	}
	bad := Append(nil, &State{Protocol: 'A'})[HeaderSize:]
	start := Append(nil, &StreamStart{Mode: ModeJournal})[HeaderSize:]
	start[1] = 2
	if _, err := Decode(TypeStreamStart, start); !errors.Is(err, ErrFrame) {
		t.Errorf("a flag that is neither yes nor no: %v", err)
	}
	if _, err := Decode(0, bad); !errors.Is(err, ErrFrame) {
		t.Errorf("type 0: %v", err)
	}
}

func TestHeaderRefused(t *testing.T) {
	good := Append(nil, &Ping{Sent: 1})
	reseal := func(change func(b []byte)) []byte {
		b := bytes.Clone(good)
		change(b)
		binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[:8], castagnoli))
		return b
	}
	for name, b := range map[string][]byte{
		"short":    good[:HeaderSize-1],
		"checksum": append([]byte{good[0] ^ 1}, good[1:]...),
		"type":     reseal(func(b []byte) { b[0] = 99 }),
		"flags":    reseal(func(b []byte) { b[1] = 1 }),
		"version":  reseal(func(b []byte) { b[2]++ }),
		"reserved": reseal(func(b []byte) { b[3] = 1 }),
		"length":   reseal(func(b []byte) { binary.BigEndian.PutUint32(b[4:], maxControlBody+1) }),
		"body":     reseal(func(b []byte) { binary.BigEndian.PutUint32(b[4:], 9) }),
	} {
		if m, err := Parse(b); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

// A batch that an older version has staged can still be applied; nothing else of it is taken.
func TestStoredVersion(t *testing.T) {
	for _, m := range samples() {
		b := Append(nil, m)
		b[2] = storedVersion
		binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[:8], castagnoli))
		if _, err := Parse(b); (err == nil) != (m.Type() == TypeBatch) {
			t.Errorf("%v of version %d: %v", m.Type(), storedVersion, err)
		}
	}
}

// A length that lies must not make the decoder allocate what it says.
func TestCountsAreHeldAgainstTheBody(t *testing.T) {
	body := binary.BigEndian.AppendUint32(nil, MaxChunkIDs) // and none of the ids
	if n := testing.AllocsPerRun(10, func() { _, _ = Decode(TypeChunkAck, body) }); n > 20 {
		t.Errorf("%v allocations", n)
	}
	if _, err := Decode(TypeChunkAck, body); !errors.Is(err, ErrFrame) {
		t.Errorf("ids that are not there: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		f.Add(Append(nil, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrFrame) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		b = bytes.Clone(b)
		if h := b[:HeaderSize]; h[2] == storedVersion {
			putHeader(h, m.Type(), len(b)-HeaderSize)
		}
		if again := Append(nil, m); !bytes.Equal(again, b) {
			t.Fatalf("%+v came from\n%x and encodes as\n%x", m, b, again)
		}
	})
}

func BenchmarkAppendHead(b *testing.B) {
	m := &Batch{Last: seq(1, 1), RawLen: 1 << 20, Payload: make([]byte, 1<<20)}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = AppendHead(buf[:0], m)
	}
}
