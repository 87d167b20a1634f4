package several

import (
	"bytes"
	"strings"
	"testing"

	"drship/bench/pair"
)

// TestDisklessPrimary: a Primary among three gives its disk up. Its client goes on, also when the peer that it reads from dies; status, proc and events2 of all
// three tell; the disk gets back what it missed.
func TestDisklessPrimary(t *testing.T) {
	w := begin(t)
	w.inSync()
	client, err := w.alice.Open(w.ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	write := func(i int) {
		t.Helper()
		if err := client.WriteAt(w.ctx, block(i), int64(i)*4096, false); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
	}
	reads := func(i int) {
		t.Helper()
		got := make([]byte, 4096)
		if err := client.ReadAt(w.ctx, got, int64(i)*4096); err != nil || !bytes.Equal(got, block(i)) {
			t.Fatalf("block %d reads %x…, %v", i, got[:8], err)
		}
	}
	tells := func(n *pair.Node, text string, verb ...string) {
		t.Helper()
		if out := w.verb(n, verb[0], verb[1:]...); !strings.Contains(out, text) {
			t.Errorf("%v on %s does not say %q:\n%s", verb, n.Name, text, out)
		}
	}
	disk := func(state string) func(pair.Status) bool {
		return func(s pair.Status) bool { return s.Devices[0].Disk == state }
	}
	write(1)
	w.verb(w.alice, "detach", pair.Resource)
	w.wait(w.alice, "Diskless", disk("Diskless"))
	write(2)
	reads(1)
	reads(2)
	tells(w.alice, "disk:Diskless", "status", pair.Resource)
	tells(w.alice, "ds:Diskless/UpToDate", "proc")
	tells(w.alice, "disk:Diskless", "events2", "--now")
	for _, n := range []*pair.Node{w.bob, w.charlie} {
		w.wait(n, "a peer without a disk", func(pair.Status) bool {
			return strings.Contains(w.verb(n, "status", pair.Resource), "peer-disk:Diskless")
		})
		tells(n, "ds:UpToDate/Diskless", "proc")
		tells(n, "peer-disk:Diskless", "events2", "--now")
	}
	if err := w.bob.Kill(); err != nil {
		t.Fatal(err)
	}
	reads(2)
	write(3)
	reads(3)
	if err := w.bob.Start(w.ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.bob.Up(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.verb(w.alice, "attach", pair.Resource)
	write(4)
	w.wait(w.alice, "UpToDate again", disk("UpToDate"))
	for i := 1; i <= 4; i++ {
		reads(i)
	}
	w.equal()
}
