package journal

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"drship/internal/block"
)

// openDisk opens a store on the real file system.
func openDisk(b *testing.B, o Options) *Store {
	b.Helper()
	o.Reserve = -1
	s, err := Open(b.TempDir(), o)
	must(b, err)
	b.Cleanup(func() { must(b, s.Close()) })
	return s
}

// BenchmarkAppend is Submit and Commit, with a peer that keeps up: the log is trimmed 256 records behind.
func BenchmarkAppend(b *testing.B) {
	for _, depth := range []int{1, 32} {
		for _, sync := range []bool{false, true} {
			for _, size := range []int{4096, 65536} {
				b.Run(fmt.Sprintf("depth=%d/sync=%v/size=%d", depth, sync, size), func(b *testing.B) {
					benchAppend(b, depth, sync, size)
				})
			}
		}
	}
}

func benchAppend(b *testing.B, depth int, sync_ bool, size int) {
	l := openDisk(b, Options{}).Log()
	start, err := l.Begin(0)
	must(b, err)
	data := payload(1, size)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range depth {
		wg.Go(func() {
			r := block.Record{Kind: block.Write, Len: uint32(size), Data: data}
			for left.Add(-1) >= 0 {
				if err := l.Submit(&r); err != nil {
					b.Error(err)
					return
				}
				if err := l.Commit(r.Seq, sync_); err != nil {
					b.Error(err)
					return
				}
				if n := r.Seq.Num; n%64 == 0 && n > 256 {
					if err := l.Trim(block.Seq{Epoch: start.Epoch, Num: n - 256}); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkBacklog is Append with a peer that is away: nothing is trimmed until the log is full.
func BenchmarkBacklog(b *testing.B) {
	l := openDisk(b, Options{MaxJournal: 1 << 30}).Log()
	_, err := l.Begin(0)
	must(b, err)
	r := block.Record{Kind: block.Write, Len: 4096, Data: payload(1, 4096)}
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		if l.Room() < 8192 {
			_, err := l.Drop()
			must(b, err)
		}
		must(b, l.Submit(&r))
		must(b, l.Commit(r.Seq, false))
	}
}

// BenchmarkRead reads 1 MiB of 4 KiB records a call, from records committed one by one.
func BenchmarkRead(b *testing.B) {
	l := openDisk(b, Options{}).Log()
	start, err := l.Begin(0)
	must(b, err)
	const n = 32768 // 128 MiB: most of it in tables
	r := block.Record{Kind: block.Write, Len: 4096, Data: payload(1, 4096)}
	for range n {
		must(b, l.Submit(&r))
		must(b, l.Commit(r.Seq, false))
	}
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	at := start
	var recs []block.Record
	var arena []byte
	for b.Loop() {
		recs, arena, err = l.ReadInto(at, 1<<20, 256, recs[:0], arena[:0])
		must(b, err)
		if at = recs[len(recs)-1].Seq; at.Num == n {
			at = start
		}
	}
}

// BenchmarkStage is one synced Append of eight batches of 32 KiB, applied at once.
func BenchmarkStage(b *testing.B) {
	g := openDisk(b, Options{}).Staging()
	raw := payload(1, 32<<10)
	entries := make([]Staged, 8)
	var n uint64
	b.SetBytes(int64(len(entries) * len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		for i := range entries {
			entries[i] = Staged{Prev: block.Seq{Num: n}, Last: block.Seq{Num: n + 1}, Raw: raw}
			n++
		}
		must(b, g.Append(entries))
		must(b, g.Applied(entries[len(entries)-1].Last))
	}
}

func BenchmarkAcquireHot(b *testing.B) {
	a := openAL(b, openDisk(b, Options{}), 1237, nil)
	r := at(1)
	must(b, a.Acquire(b.Context(), 0, r))
	b.ReportAllocs()
	for b.Loop() {
		if err := a.Acquire(b.Context(), 0, r); err != nil {
			b.Fatal(err)
		}
		a.Release(0, r)
	}
}

func BenchmarkBitmapSet(b *testing.B) {
	m, err := openDisk(b, Options{}).Bitmap("bob", 0, 1<<40)
	must(b, err)
	var n int64
	b.ReportAllocs()
	for b.Loop() {
		n = (n*6364136223846793005 + 1442695040888963407) & (1<<40 - 1)
		m.Set(block.Range{Off: n &^ 4095, Len: 4096})
	}
}
