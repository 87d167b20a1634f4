package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func readAll(t *testing.T, d Disk) []byte {
	t.Helper()
	p := make([]byte, d.Size())
	if err := d.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCrashKeepsWhatWasSynced: every sector of a crashed disk holds a version between the synced one and the last,
// and both outcomes of a loss are seen over the seeds.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	const size, sectors = 64 << 10, 128
	var lost, kept, between int
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		d := NewMem(size, seed)
		var newest, durable [sectors]byte
		for version := byte(1); version < 40; version++ {
			s := rnd.IntN(sectors - 8)
			n := 1 + rnd.IntN(8)
			if err := d.WriteAt(bytes.Repeat([]byte{version}, n*512), int64(s)*512); err != nil {
				t.Fatal(err)
			}
			for i := s; i < s+n; i++ {
				newest[i] = version
			}
			if version == 20 {
				if err := d.Sync(); err != nil {
					t.Fatal(err)
				}
				durable = newest
			}
		}
		clone := d.CrashClone()
		if image := readAll(t, d); image[0] != newest[0] {
			t.Fatal("a clone disturbed its disk")
		}
		for i, image := 0, readAll(t, clone); i < sectors; i++ {
			got := image[i*512]
			if !bytes.Equal(image[i*512:(i+1)*512], bytes.Repeat([]byte{got}, 512)) {
				t.Fatalf("seed %d: sector %d is torn inside", seed, i)
			}
			if got < durable[i] || got > newest[i] {
				t.Fatalf("seed %d: sector %d holds version %d, want %d..%d", seed, i, got, durable[i], newest[i])
			}
			switch {
			case durable[i] == newest[i]:
			case got == durable[i]:
				lost++
			case got == newest[i]:
				kept++
			default:
				between++
			}
		}
	}
	if lost == 0 || kept == 0 || between == 0 {
		t.Errorf("lost %d, kept %d, between %d: a crash should show all three", lost, kept, between)
	}
}

func TestCrashFollowsItsSeed(t *testing.T) {
	run := func(seed uint64) []byte {
		d := NewMem(256<<10, seed)
		for i := range 200 {
			if err := d.WriteAt(bytes.Repeat([]byte{byte(i)}, 3000), int64(i*1171)); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Zero(0, 200<<10, true); err != nil {
			t.Fatal(err)
		}
		d.Crash()
		return readAll(t, d)
	}
	different := false
	for seed := range uint64(16) {
		if !bytes.Equal(run(seed), run(seed)) {
			t.Fatalf("seed %d gave two results", seed)
		}
		different = different || !bytes.Equal(run(seed), run(seed+100))
	}
	if !different {
		t.Error("the seed does not matter")
	}
}

// TestMemIsSparse: 64 TiB with one page written; zeroing all of it is quick and gives the page back.
func TestMemIsSparse(t *testing.T) {
	d := NewMem(64<<40, 1)
	if err := d.WriteAt([]byte{1}, 63<<40); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Zero(1, 64<<40-1, true), d.Sync()); err != nil {
		t.Fatal(err)
	}
	if len(d.pages) != 0 {
		t.Errorf("%d pages left", len(d.pages))
	}
}

func TestFaults(t *testing.T) {
	plan := &Plan{}
	d := Faulty(NewMem(64<<10, 1), plan)
	plan.Add(Fault{Ops: OpWrite, Off: 8192, Len: 4096, Skip: 1, Times: 2, Err: syscall.EIO, Torn: true})
	var got []bool
	for range 4 {
		got = append(got, errors.Is(d.WriteAt(bytes.Repeat([]byte{9}, 4096), 8192), syscall.EIO))
	}
	if want := []bool{false, true, true, false}; !slices.Equal(got, want) {
		t.Errorf("failed %v, want %v", got, want)
	}
	if err := d.WriteAt(make([]byte, 4096), 4096); err != nil {
		t.Errorf("beside the range: %v", err)
	}
	plan.Add(Fault{Ops: OpWrite | OpZero, Err: syscall.ENOSPC, Torn: true})
	if err := d.WriteAt(bytes.Repeat([]byte{7}, 4096), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full disk: %v", err)
	}
	if image := readAll(t, d); image[2047] != 7 || image[2048] != 0 {
		t.Error("a torn write leaves its first half")
	}
	plan.Clear()
	plan.Add(Fault{Ops: OpSync, Off: 4096, Len: 1, Err: syscall.EIO})
	if err := d.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("sync: %v", err)
	}
	if plan.Hits() != 4 {
		t.Errorf("%d hits", plan.Hits())
	}
}

func TestFaultsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan, start := &Plan{}, time.Now()
		d := Faulty(NewMem(4096, 1), plan)
		plan.Add(Fault{Ops: OpRead, From: start.Add(time.Minute), Until: start.Add(2 * time.Minute), Err: syscall.EIO})
		plan.Add(Fault{Ops: OpAny, Delay: 50 * time.Second})
		p := make([]byte, 512)
		for i, want := range []bool{false, false, true, false} { // at 0, 50, 100 s; a failing call is not slow
			if err := d.ReadAt(p, 0); (err != nil) != want {
				t.Errorf("read %d after %v: %v", i, time.Since(start), err)
			}
			if i == 2 {
				<-time.After(time.Minute)
			}
		}
		if took := time.Since(start); took != 210*time.Second {
			t.Errorf("took %v", took)
		}
	})
}
