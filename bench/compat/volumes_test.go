package compat

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

const bothUpToDate = ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----`

// twoVolumes is a shell on a pair whose nodes have volume 1 in their configuration once with says so.
func twoVolumes(t *testing.T, o pair.Options) (s *shell, set func(node string, with bool)) {
	t.Helper()
	second := regexp.MustCompile(`(?s)\t\tvolume 1 \{.*?\}\n`)
	has := map[string]bool{}
	o.Sizes = []int64{volumeSize, volumeSize}
	o.Adjust = func(node, _, text string) string {
		if has[node] {
			return text
		}
		return second.ReplaceAllString(text, "")
	}
	s = newShell(t, o)
	return s, func(node string, with bool) {
		has[node] = with
		if err := s.p.Node(node).WriteConfig(); err != nil {
			t.Fatal(err)
		}
	}
}

// writer writes to volume 0 of a node, one block after the other, until it is stopped: every write has to succeed.
func writer(ctx context.Context, t *testing.T, v *pair.Volume) (stop func() int) {
	t.Helper()
	var n atomic.Int64
	var longest time.Duration
	var failed atomic.Pointer[error]
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		block := make([]byte, 4096)
		for ctx.Err() == nil {
			k := n.Load()
			copy(block, fmt.Sprintf("write %d", k))
			began := time.Now()
			if err := v.WriteAt(context.WithoutCancel(ctx), block, k*4096%volumeSize, k%16 == 0); err != nil {
				failed.Store(&err)
				return
			}
			longest = max(longest, time.Since(began))
			n.Add(1)
		}
	})
	return func() int {
		cancel()
		wg.Wait()
		if err := failed.Load(); err != nil {
			t.Errorf("a client of the volume that stays was disturbed: %v", *err)
		}
		t.Logf("%d writes, the longest took %v", n.Load(), longest)
		return int(n.Load())
	}
}

// A volume is added to a resource that is in use, gets its first synchronisation, serves, and is taken away again; the clients of the other volume
// write all the time.
func TestVolumeComesAndGoes(t *testing.T) {
	ctx := pairtest.Real(t)
	s, set := twoVolumes(t, pair.Options{Net: append(pair.QuickTiming(), "verify-alg crc32c")})
	if err := s.p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	s.replay(ctx, first("drbdadm primary --force r0"))
	v, err := s.p.Node("alice").Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	stop := writer(ctx, t, v)

	const both = bothUpToDate
	set("alice", true)
	s.replay(ctx, []step{
		{"alice", "drbdadm -d adjust r0", 0, `^drbdsetup-84 new-minor r0 1 1\ndrbdmeta 1 v08 \S+ internal apply-al\ndrbdsetup-84 attach 1 \S+ \S+ internal\n$`},
		{"alice", "drbdadm adjust r0", 10, `Failure: \(119\) No valid meta-data signature found\.`},
		{"alice", "drbdadm create-md r0/1", 0, created},
		{"alice", "drbdadm create-md r0/1", 40, `(?s)There appears to be.*Operation refused\.`},
		{"alice", "drbdadm adjust r0", 0, `^$`},
		{"alice", "drbdadm -d adjust r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, `(?s)` + both + `.*\n 1: cs:\S+ ro:Primary/\S+ ds:Inconsistent/(Diskless|DUnknown) C r-----`},
	})
	if w, err := s.p.Node("alice").Open(ctx, 1); err == nil {
		w.Close()
		t.Error("a volume that has no data yet was opened")
	}
	s.replay(ctx, []step{{"alice", "drbdadm primary --force r0/1", 11, `State change failed: \(-5\)`}, {"alice", "drbdadm cstate r0/0", 0, `^Connected\n$`}})
	set("bob", true)
	s.replay(ctx, []step{
		{"bob", "drbdadm create-md r0/1", 0, created},
		{"bob", "drbdadm adjust r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, `(?s)` + both + `.*\n 1: cs:Connected ro:Primary/Secondary ds:Inconsistent/Inconsistent C r-----`},
		{"alice", "drbdadm primary --force r0/1", 0, `^$`},
		{"bob", "cat /proc/drbd", 0, `(?s) 0: cs:\S+ ro:Secondary/Primary ds:UpToDate/UpToDate C r-----.*\n 1: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----`},
	})
	w, err := s.p.Node("alice").Open(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	mark := []byte("the new volume is written")
	if err := w.WriteAt(ctx, mark, 4096, true); err != nil {
		t.Fatal(err)
	}
	set("alice", false)
	s.replay(ctx, []step{
		{"alice", "drbdadm -d adjust r0", 0, `^drbdsetup-84 detach 1\ndrbdsetup-84 del-minor 1\n$`},
		{"alice", "drbdadm adjust r0", 11, `State change failed: \(-12\) Device is held open by someone`},
	})
	w.Close()
	set("bob", false)
	s.replay(ctx, []step{
		{"alice", "drbdadm adjust r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, both},
		{"bob", "drbdadm adjust r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, both + `[^\n]*\n[^\n]*\n$`},
	})
	if n := stop(); n < 10 {
		t.Errorf("%d writes only", n)
	}
	s.comesBack(ctx, set, mark, v)
}

// comesBack adds volume 1 once more: it is as it was, without a sync.
func (s *shell) comesBack(ctx context.Context, set func(string, bool), mark []byte, v *pair.Volume) {
	s.t.Helper()
	t := s.t
	for _, n := range []string{"alice", "bob"} {
		set(n, true)
		s.replay(ctx, []step{{n, "drbdadm adjust r0", 0, `^$`}})
	}
	s.replay(ctx, []step{{"alice", "cat /proc/drbd", 0, `(?s)` + bothUpToDate + `.*\n 1: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----`}})
	w, err := s.p.Node("alice").Open(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(mark))
	if err := w.ReadAt(ctx, got, 4096); err != nil || string(got) != string(mark) {
		t.Errorf("%q, %v", got, err)
	}
	w.Close()
	v.Close()
	s.replay(ctx, []step{
		{"alice", "drbdadm secondary r0", 0, `^$`},
		{"bob", "drbdadm primary r0", 0, `^$`},
	})
	for i := range 2 {
		a, err := os.ReadFile(s.p.Node("alice").Backing(i))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(s.p.Node("bob").Backing(i))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("volume %d: the sides differ", i)
		}
	}
}

// Options that count from an attach take effect at adjust, and at once where they are set for now; clients wait for a moment.
func TestOptionsOfAttach(t *testing.T) {
	ctx := pairtest.Real(t)
	s := newShell(t, pair.Options{Sizes: []int64{volumeSize}, Net: pair.QuickTiming(), Disk: []string{"al-extents 257"}, Journal: []string{"max-size 64M"}})
	if err := s.p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	s.replay(ctx, first("drbdadm primary --force r0"))
	v, err := s.p.Node("alice").Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	stop := writer(ctx, t, v)
	attached := func() int {
		text, err := os.ReadFile(s.p.Node("alice").LogPath())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "msg=attached")
	}
	before := attached()
	s.edit("alice", "al-extents 257", "al-extents 67")
	s.edit("alice", "max-size 64M", "max-size 128M")
	s.replay(ctx, []step{
		{"alice", "drbdadm -d adjust r0", 0, `^drbdsetup-84 disk-options 0 --set-defaults --al-extents=67\n$`},
		{"alice", "drbdadm adjust r0", 0, `^$`},
		{"alice", "drbdadm -d adjust r0", 0, `^$`},
		{"alice", "drbdsetup show r0", 0, `al-extents      \t67;`},
		{"alice", "drbdadm disk-options --al-extents=129 r0", 0, `^$`},
		{"alice", "drbdsetup show r0", 0, `al-extents      \t129;`},
		{"alice", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----`},
	})
	if n := attached() - before; n != 2 {
		t.Errorf("the disks were taken %d times, not once by each command", n)
	}
	stop()
}

// A resource goes on under another name with all that it has.
func TestRenameResource(t *testing.T) {
	ctx := pairtest.Real(t)
	s := newShell(t, pair.Options{Sizes: []int64{volumeSize}, Net: pair.QuickTiming()})
	if err := s.p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	s.replay(ctx, first("drbdadm primary --force r0"))
	s.replay(ctx, []step{{"alice", "drbdsetup rename-resource r0 data", 10, `data: Failure: \(158\) Unknown resource`}})
	for _, n := range []string{"alice", "bob"} {
		s.replay(ctx, []step{{n, "drbdadm down r0", 0, `^$`}})
		s.edit(n, "resource r0 {", "resource data {")
		s.replay(ctx, []step{
			{n, "drbdadm up data", 10, `Failure: \(119\)`},
			{n, "drbdsetup rename-resource r0 data", 0, `^$`},
			{n, "drbdsetup rename-resource r0 data", 1, `nothing is kept of a resource r0`},
			{n, "drbdadm up data", 0, `^$`},
		})
	}
	s.replay(ctx, []step{
		{"alice", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate C r-----`},
		{"bob", "drbdadm primary data", 0, `^$`},
	})
}
