// Package bounds proves that a pair lives within its limits: a full journal, a full file system under the state directory, a huge
// volume, and the memory of a daemon under load.
package bounds

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
	"drship/bench/relay"
)

const (
	volumeSize = 128 << 20
	journalMax = 16 << 20
)

// flood writes the volume from end to end in pieces, with a byte of its own for each round, until ctx ends or it is through.
type flood struct {
	t      *testing.T
	volume *pair.Volume
}

func openFlood(ctx context.Context, t *testing.T, n *pair.Node) *flood {
	t.Helper()
	x, err := n.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return &flood{t: t, volume: x}
}

const piece = 64 << 10

// write fills bytes from off on with what does not compress, and returns the first error.
func (f *flood) write(ctx context.Context, off, n int64, seed byte) error {
	p := make([]byte, piece)
	for end := off + n; off < end; off += piece {
		fill(p, seed, off)
		if err := f.volume.WriteAt(ctx, p, off, false); err != nil {
			return err
		}
	}
	return nil
}

// fill makes bytes from a seed and an offset by xorshift.
func fill(p []byte, seed byte, off int64) {
	x := uint64(off)<<8 | uint64(seed) | 1<<63
	for i := range p {
		if i%8 == 0 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		p[i] = byte(x >> (i % 8 * 8))
	}
}

func (f *flood) must(ctx context.Context, off, n int64, seed byte) {
	f.t.Helper()
	if err := f.write(ctx, off, n, seed); err != nil {
		f.t.Fatalf("a client's write failed: %v", err)
	}
}

func wait(ctx context.Context, t *testing.T, n *pair.Node, what string, ok func(pair.Status) bool) pair.Status {
	t.Helper()
	s, err := n.Wait(ctx, what, ok)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func apart(s pair.Status) bool { return !s.Connected() }

// settle waits until the pair is in sync and its disks are equal, alice demoted.
func settle(ctx context.Context, t *testing.T, p *pair.Pair) {
	t.Helper()
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	alice, bob := p.Node("alice"), p.Node("bob")
	if err := alice.Demote(ctx); err != nil {
		t.Fatal(err)
	}
	wait(ctx, t, bob, "equal disks", func(pair.Status) bool {
		return bytes.Equal(disk(t, alice), disk(t, bob))
	})
}

func disk(t *testing.T, n *pair.Node) []byte {
	t.Helper()
	f, err := os.Open(n.Backing(0))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// full brings up a pair with a small journal, cuts its link and waits until both have noticed.
func full(ctx context.Context, t *testing.T, onFull string) (*pair.Pair, *flood) {
	t.Helper()
	p := pairtest.Up(ctx, t, pair.Options{
		Protocol: "A", Sizes: []int64{volumeSize}, Link: &relay.Link{},
		Journal: []string{"max-size 16M", "on-full " + onFull},
	})
	f := openFlood(ctx, t, p.Node("alice"))
	f.must(ctx, 0, 4<<20, 1)
	p.Relay.Cut()
	for _, n := range p.Nodes {
		wait(ctx, t, n, "the cut to be noticed", apart)
	}
	return p, f
}

// TestJournalFullPullAhead: the client writes on, the blocks are tracked, and a resync follows when the link is back.
func TestJournalFullPullAhead(t *testing.T) {
	ctx := pairtest.Real(t)
	p, f := full(ctx, t, "pull-ahead")
	alice := p.Node("alice")
	f.must(ctx, 4<<20, 4*journalMax, 2)
	wait(ctx, t, alice, "blocks out of sync", func(s pair.Status) bool { return s.OutOfSync()<<10 >= 3*journalMax })
	boundedJournal(t, alice)
	p.Relay.Heal()
	f.must(ctx, 80<<20, 4<<20, 3)
	f.volume.Close()
	settle(ctx, t, p)
}

// boundedJournal checks that the state directory stays near the journal's limit: Pebble may hold as much again in what it has not compacted, and
// the ballast.
func boundedJournal(t *testing.T, n *pair.Node) {
	t.Helper()
	const others = 160 << 20
	var sum int64
	err := filepath.WalkDir(n.StateDir(), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // files come and go while the store works
		}
		if st, err := e.Info(); err == nil {
			sum += st.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if sum > 2*journalMax+others {
		t.Errorf("the state directory holds %d MiB with a journal limited to %d", sum>>20, journalMax>>20)
	}
}

// TestJournalFullBlock: the client waits, and goes on when the link is back; nothing is resynced.
func TestJournalFullBlock(t *testing.T) {
	ctx := pairtest.Real(t)
	p, f := full(ctx, t, "block")
	written := make(chan error, 1)
	go func() { written <- f.write(ctx, 4<<20, 4*journalMax, 2) }()
	timer := time.NewTimer(3 * time.Second) // far longer than the writes take unhindered
	defer timer.Stop()
	select {
	case err := <-written:
		t.Fatalf("the writes went through with the journal full: %v", err)
	case <-timer.C:
	}
	if s := wait(ctx, t, p.Node("bob"), "a status", func(pair.Status) bool { return true }); !s.UpToDate() {
		t.Errorf("bob is no longer UpToDate: %v", s)
	}
	p.Relay.Heal()
	if err := <-written; err != nil {
		t.Fatalf("a client's write failed: %v", err)
	}
	f.volume.Close()
	settle(ctx, t, p)
}

// TestJournalFullDisconnect: the peer is dropped for good, the client writes on; connect makes both equal again.
func TestJournalFullDisconnect(t *testing.T) {
	ctx := pairtest.Real(t)
	p, f := full(ctx, t, "disconnect")
	alice := p.Node("alice")
	f.must(ctx, 4<<20, 4*journalMax, 2)
	wait(ctx, t, alice, "StandAlone", func(s pair.Status) bool {
		return len(s.Connections) == 1 && s.Connections[0].State == "StandAlone"
	})
	p.Relay.Heal()
	f.must(ctx, 80<<20, 4<<20, 3)
	f.volume.Close()
	if _, err := alice.Verb(ctx, "connect", pair.Resource); err != nil {
		t.Fatal(err)
	}
	settle(ctx, t, p)
}

// TestStateDirFull fills the file system under alice's state directory: the volume goes on serving, the blocks are
// tracked, and both sides become equal again.
func TestStateDirFull(t *testing.T) {
	ctx := pairtest.Real(t)
	small, large := smallFS(ctx, t, "200m"), t.TempDir()
	p := pairtest.Up(ctx, t, pair.Options{
		Protocol: "A", Sizes: []int64{volumeSize}, Link: &relay.Link{},
		StateDir: func(node string) string {
			if node == "alice" {
				return filepath.Join(small, "state")
			}
			return filepath.Join(large, "state")
		},
	})
	alice := p.Node("alice")
	f := openFlood(ctx, t, alice)
	p.Relay.Cut()
	for round := range byte(3) {
		f.must(ctx, 0, volumeSize, round+1) // three times the volume is more than the file system holds
	}
	wait(ctx, t, alice, "blocks out of sync", func(s pair.Status) bool { return s.OutOfSync() > 0 })
	p.Relay.Heal()
	f.must(ctx, 0, 4<<20, 9)
	f.volume.Close()
	settle(ctx, t, p)
}

// smallFS mounts a file system of a given size.
func smallFS(ctx context.Context, t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	mount, umount := pairtest.Tool(t, "mount", "mount"), pairtest.Tool(t, "umount", "mount")
	dir, err := os.MkdirTemp("", "drship-fs-")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, mount, "-t", "tmpfs", "-o", "size="+size, "drship-test", dir).CombinedOutput(); err != nil {
		_ = os.Remove(dir)
		t.Skipf("this machine does not let us mount a tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(umount, dir).CombinedOutput(); err != nil {
			t.Errorf("unmount: %v: %s", err, out)
		}
		_ = os.Remove(dir)
	})
	return dir
}
