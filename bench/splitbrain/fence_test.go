package splitbrain

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drship/bench/pair"
)

// fenced is a world whose fence-peer handler notes that it ran, waits until it may answer, and answers with the exit code in a file.
type fenced struct {
	*world
	code string
}

func beginFenced(t *testing.T, policy string) *fenced {
	f := &fenced{code: filepath.Join(t.TempDir(), "code")}
	handler := fmt.Sprintf(`fence-peer "echo fencing $DRBD_PEER >> $DRSHIP_TEST_EVENTS; while ! test -s %s; do sleep 0.05; done; exit $(cat %s)"`, f.code, f.code)
	f.world = begin(t, pair.Options{Net: []string{"fencing " + policy}, Handlers: []string{handler}}, "unfence-peer")
	return f
}

func (f *fenced) answer(code int) {
	f.Helper()
	if err := os.WriteFile(f.code+".new", fmt.Append(nil, code), 0o600); err != nil {
		f.Fatal(err)
	}
	if err := os.Rename(f.code+".new", f.code); err != nil {
		f.Fatal(err)
	}
}

func (f *fenced) peerDisk(n *pair.Node, disk string) {
	f.Helper()
	f.wait(n, "peer "+disk, func(s pair.Status) bool { return s.Connections[0].Peers[0].Disk == disk })
}

// TestStonithFreezes: with resource-and-stonith no write completes from the loss of the peer until fence-peer has answered.
func TestStonithFreezes(t *testing.T) {
	f := beginFenced(t, "resource-and-stonith")
	v, err := f.alice.Open(f.ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := f.bob.Kill(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- v.WriteAt(f.ctx, content("alone"), 0, true) }()
	f.ran("fencing bob")
	quiet := time.NewTimer(time.Second)
	defer quiet.Stop()
	select {
	case err := <-done:
		t.Fatalf("a write completed before the peer was fenced (%v)", err)
	case <-quiet.C:
	}
	if out := f.verb(f.alice, "status"); !strings.Contains(out, "suspended:fencing") {
		t.Errorf("status does not say that I/O is frozen:\n%s", out)
	}
	f.answer(7)
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("I/O stays frozen although the peer was fenced")
	}
	f.peerDisk(f.alice, "Outdated")
	if err := f.bob.Start(f.ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.bob.Up(f.ctx); err != nil {
		t.Fatal(err)
	}
	v.Close()
	f.ran("alice unfence-peer bob")
	f.equal()
}

// TestFenceRefused: a handler that cannot fence keeps I/O frozen until the administrator answers for it.
func TestFenceRefused(t *testing.T) {
	f := beginFenced(t, "resource-and-stonith")
	f.answer(1)
	if err := f.bob.Kill(); err != nil {
		t.Fatal(err)
	}
	f.ran("fencing bob")
	f.refused(f.alice, "frozen", "secondary")
	v, err := f.alice.Open(f.ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	short, cancel := context.WithTimeout(f.ctx, time.Second)
	defer cancel()
	if err := v.WriteAt(short, content("alone"), 0, true); err == nil {
		t.Fatal("a write completed although the peer is not fenced")
	}
	f.verb(f.alice, "resume-io")
	w, err := f.alice.Open(f.ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.WriteAt(f.ctx, content("alone"), 0, true); err != nil {
		t.Fatal(err)
	}
}

// TestFencedPromotion: a Secondary fences a peer out of sight before it becomes Primary, and is refused where it cannot.
func TestFencedPromotion(t *testing.T) {
	f := beginFenced(t, "resource-only")
	f.answer(6)
	if err := f.alice.Kill(); err != nil {
		t.Fatal(err)
	}
	f.waitState(f.bob, "Connecting")
	f.refused(f.bob, "UpToDate", "primary")
	f.ran("fencing alice")
	f.wait(f.bob, "Outdated", func(s pair.Status) bool { return s.Devices[0].Disk == "Outdated" }) // alice is Primary, said the handler
	f.refused(f.bob, "Outdated", "primary")
	f.verb(f.bob, "primary", "--force")
}

// TestFencedTakeover: the survivor takes over once its peer is known to be off.
func TestFencedTakeover(t *testing.T) {
	f := beginFenced(t, "resource-only")
	f.answer(7)
	f.write(f.alice, 3, 1, "before")
	if err := f.alice.Kill(); err != nil {
		t.Fatal(err)
	}
	f.waitState(f.bob, "Connecting")
	f.verb(f.bob, "primary")
	f.peerDisk(f.bob, "Outdated")
	f.holds(f.bob, 3, "before")
}

// TestLeftInOrder: with fencing a Secondary that is left behind in order is Outdated, refuses to be Primary, and is good again as soon as it
// has caught up.
func TestLeftInOrder(t *testing.T) {
	f := beginFenced(t, "resource-only")
	f.answer(5)
	f.verb(f.alice, "disconnect")
	f.peerDisk(f.alice, "Outdated")
	f.wait(f.bob, "Outdated", func(s pair.Status) bool { return s.Devices[0].Disk == "Outdated" })
	f.refused(f.bob, "Outdated", "primary")
	f.write(f.alice, 5, 1, "alone")
	f.verb(f.alice, "connect")
	f.equal()
	f.holds(f.bob, 5, "alone")
	if strings.Contains(f.noted(), "fencing") {
		t.Error("an orderly end was fenced")
	}
}

// TestOutdateVerb: drship outdate works on a Secondary that is alone, and connecting to the same data takes it back.
func TestOutdateVerb(t *testing.T) {
	w := begin(t, pair.Options{})
	w.refused(w.alice, "Primary", "outdate")
	w.refused(w.bob, "", "outdate")
	w.verb(w.bob, "disconnect")
	w.verb(w.bob, "outdate")
	w.refused(w.bob, "Outdated", "primary")
	w.verb(w.bob, "connect")
	w.equal()
}
