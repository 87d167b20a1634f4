package receiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/disk"
	"drship/journal"
	"drship/wan/frame"
	"drship/wan/reduce"
)

// benchLink waits for a mark and drops everything else.
type benchLink struct{ staged, applied chan block.Seq }

func (l *benchLink) Send(_ context.Context, m frame.Message) error {
	if a, ok := m.(*frame.Ack); ok {
		for c, s := range map[chan block.Seq]block.Seq{l.staged: a.Staged, l.applied: a.Applied} {
			select {
			case <-c:
			default:
			}
			c <- s
		}
	}
	return nil
}

type quietHooks struct{ tb testing.TB }

func (quietHooks) ResyncFinished(context.Context, block.Seq) error { return nil }
func (h quietHooks) DiskFailed(v uint16, err error)                { h.tb.Errorf("disk %d: %v", v, err) }
func (h quietHooks) HistoryFull(err error)                         { h.tb.Errorf("history: %v", err) }
func (h quietHooks) StoreFailed(err error)                         { h.tb.Errorf("store: %v", err) }

// BenchmarkReceive measures 4 KiB records from Handle to the disk, on real files: "applied" streams batches and waits for
// the last to be applied; "staged" waits for each batch to be staged before it sends the next, as protocol C at depth 1.
func BenchmarkReceive(b *testing.B) {
	for _, records := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("applied/records=%d", records), func(b *testing.B) { benchReceive(b, records, false) })
		b.Run(fmt.Sprintf("staged/records=%d", records), func(b *testing.B) { benchReceive(b, records, true) })
	}
}

func benchReceive(b *testing.B, records int, each bool) {
	const size = 256 << 20
	path := filepath.Join(b.TempDir(), "disk.img")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		b.Fatal(err)
	}
	d, err := disk.Open(path, disk.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	store, err := journal.Open(filepath.Join(b.TempDir(), "store"), journal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	t, err := New(Config{Store: store, Volumes: []Volume{{Number: 0, Disk: d}}, Hooks: quietHooks{b}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	enc, err := reduce.NewEncoder(reduce.Options{Digest: digest.CRC32C})
	if err != nil {
		b.Fatal(err)
	}
	link := &benchLink{staged: make(chan block.Seq, 1), applied: make(chan block.Seq, 1)}
	run := t.Start(b.Context(), link)
	at := block.Seq{Epoch: 1}
	if err := run.Handle(b.Context(), &frame.StreamStart{Mode: frame.ModeJournal, From: at}); err != nil {
		b.Fatal(err)
	}
	recs := make([]block.Record, records)
	data := make([]byte, block.Size)
	for i := range data {
		data[i] = byte(i*7 + i/256)
	}
	b.SetBytes(int64(records) * block.Size)
	b.ReportAllocs()
	for b.Loop() {
		prev := at
		for i := range recs {
			at.Num++
			recs[i] = block.Record{Seq: at, Kind: block.Write, Off: int64(at.Num*7919%(size/block.Size)) * block.Size, Len: block.Size, Data: data}
		}
		m, err := enc.Batch(prev, recs, nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := run.Handle(b.Context(), m); err != nil {
			b.Fatal(err)
		}
		for each && (<-link.staged).Less(at) {
		}
	}
	for (<-link.applied).Less(at) {
	}
	b.StopTimer()
	if err := run.Stop(); err != nil {
		b.Fatal(err)
	}
	s := t.Stats()
	b.ReportMetric(float64(s.Syncs)/float64(b.N), "syncs/op")
	b.ReportMetric(float64(s.Stages)/float64(b.N), "stages/op")
	b.ReportMetric(float64(s.Spilled)/float64(b.N), "spilled/op")
}
