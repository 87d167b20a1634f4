package disk_test

import (
	"bytes"
	"errors"
	"syscall"
	"testing"

	"drship/internal/block"
	"drship/internal/disk"
)

// set is a set of blocks in memory, and how many of them are durable.
type set struct {
	blocks  map[uint64]bool
	durable uint64
}

func (s *set) Set(r block.Range) (n uint64) {
	for b, end := r.Blocks(); b < end; b++ {
		s.blocks[b] = true
	}
	return n
}

func (s *set) Clear(r block.Range) (n uint64) {
	for b := (r.Off + block.Size - 1) / block.Size; b < r.End()/block.Size; b++ {
		delete(s.blocks, uint64(b))
	}
	return n
}

func (s *set) ClearAll() { clear(s.blocks) }

func (s *set) Contains(r block.Range) bool {
	for b, end := r.Blocks(); b < end; b++ {
		if s.blocks[b] {
			return true
		}
	}
	return false
}

func (s *set) Next(from uint64, _ int) (first, n uint64, ok bool) {
	for b := range s.blocks {
		if b >= from && (!ok || b < first) {
			first, n, ok = b, 1, true
		}
	}
	return first, n, ok
}

func (s *set) Count() uint64 { return uint64(len(s.blocks)) }

func (s *set) Flush() error {
	s.durable = s.Count()
	return nil
}

func blocks(first, n int64) block.Range {
	return block.Range{Off: first * block.Size, Len: n * block.Size}
}

func TestPartial(t *testing.T) {
	var plan disk.Plan
	mem := disk.NewMem(64*block.Size, 1)
	missing := &set{blocks: map[uint64]bool{}}
	p := disk.NewPartial(disk.Faulty(mem, &plan), mem.Size(), missing)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	page := bytes.Repeat([]byte{7}, block.Size)
	must(p.WriteAt(page, 0))
	if p.Lacks(blocks(0, 64)) || p.Missing() != 0 {
		t.Fatal("a disk that is there lacks something")
	}

	if p.Remove() == nil || p.Remove() != nil || !p.Gone() {
		t.Fatal("the disk is removed once")
	}
	must(p.WriteAt(page[:100], 3*block.Size+50))
	must(p.Zero(10*block.Size, 2*block.Size, true))
	if missing.durable != 0 {
		t.Fatal("durable before a sync")
	}
	must(p.Sync())
	if missing.durable != 3 {
		t.Fatalf("%d blocks missing, durably", missing.durable)
	}
	if err := p.ReadAt(page, 0); !errors.Is(err, disk.ErrMissing) {
		t.Fatalf("read without a disk: %v", err)
	}
	must(disk.Blind(p).ReadAt(page, 0))
	if page[0] != 0 {
		t.Fatal("who is blind reads no zeroes")
	}

	p.Put(disk.Faulty(mem, &plan))
	must(p.ReadAt(page, 0))
	if page[0] != 7 || !p.Lacks(blocks(3, 1)) || p.Lacks(blocks(4, 6)) {
		t.Fatal("what was not written is not what the disk has")
	}
	if err := p.ReadAt(make([]byte, 2*block.Size), 2*block.Size); !errors.Is(err, disk.ErrMissing) {
		t.Fatalf("read across what is missing: %v", err)
	}
	must(p.WriteAt(page[:10], 3*block.Size)) // a part of a block mends nothing
	must(p.WriteAt(page, 10*block.Size))
	if p.Missing() != 3 {
		t.Fatal("mended before a sync")
	}
	plan.Add(disk.Fault{Ops: disk.OpSync, Err: syscall.EIO, Times: 1})
	if p.Sync() == nil {
		t.Fatal("the sync did not fail")
	}
	must(p.Sync())
	if p.Missing() != 3 {
		t.Fatal("mended by a sync that failed")
	}
	must(p.WriteAt(page, 10*block.Size))
	must(p.Sync())
	if p.Missing() != 2 || missing.durable != 2 || p.Lacks(blocks(10, 1)) {
		t.Fatalf("%d missing, %d durably", p.Missing(), missing.durable)
	}

	must(p.WriteAt(page, 11*block.Size))
	if d := p.Remove(); d == nil {
		t.Fatal("no disk")
	}
	p.Put(disk.NewMem(64*block.Size, 2))
	must(p.Sync())
	if p.Missing() != 2 {
		t.Fatal("another disk was taken for the one that was written to")
	}
	must(p.Forgive())
	if p.Missing() != 0 || missing.durable != 0 {
		t.Fatal("not forgiven")
	}
}
