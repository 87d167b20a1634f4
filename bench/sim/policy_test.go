package sim

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"drship/internal/face"
	"drship/internal/state"
)

const policyConfig = `
resource r0 {
	net { protocol C; cram-hmac-alg sha256; shared-secret "simulated"; %s }
	%s
	on alice { address 10.0.0.1:7788; %s }
	on bob   { address 10.0.0.2:7788; %s }
}
`

// duo is a pair whose data both sides hold, for tests of what happens after they part.
type duo struct {
	*testing.T
	*run
	alice, bob *machine
	log        lockedBuffer
}

// pairUp makes a pair with alice Primary and everything UpToDate. Inside a bubble.
func pairUp(t *testing.T, dir, netAlice, netBob, sections string) *duo {
	return pairOf(t, dir, 1, netAlice, netBob, sections)
}

// pairOf makes a pair with several volumes.
func pairOf(t *testing.T, dir string, volumes int, netAlice, netBob, sections string) *duo {
	d := &duo{T: t}
	d.run = newRun(plan{seed: 1, protocol: 'C', volumes: volumes, journal: "64M"}, dir, &d.log)
	d.alice, d.bob = d.primary, d.secondary
	hosts := []any{d.plan.disks("alice"), d.plan.disks("bob")}
	d.alice.conf = fmt.Sprintf(policyConfig, append([]any{netAlice, sections}, hosts...)...)
	d.bob.conf = fmt.Sprintf(policyConfig, append([]any{netBob, sections}, hosts...)...)
	d.world.set(line{delay: time.Millisecond})
	t.Cleanup(func() {
		d.close()
		if t.Failed() {
			t.Log(d.log.String())
		}
	})
	if err := d.create(); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *duo) verb(m *machine, verb string, options ...string) {
	d.Helper()
	if err := m.do(verb, options...); err != nil {
		d.Fatal(err)
	}
}

// write fills blocks with the text, and reports the failure where it may fail.
func (d *duo) write(m *machine, text string, blocks ...int) {
	d.Helper()
	v, err := m.open(0)
	if err != nil {
		d.Fatal(err)
	}
	defer v.close()
	for _, b := range blocks {
		if err := v.WriteAt(context.Background(), filled(text), int64(b)*4096, false); err != nil {
			d.Fatal(err)
		}
	}
}

func (d *duo) holds(m *machine, b int, text string) {
	d.Helper()
	got := make([]byte, 4096)
	if err := m.disks[0].ReadAt(got, int64(b)*4096); err != nil || !bytes.Equal(got, filled(text)) {
		d.Errorf("block %d of %s holds %.20q, not %q (%v)", b, m.name, got, text, err)
	}
}

// await polls one machine.
func (d *duo) await(m *machine, what string, ok func(face.Resource) bool) {
	d.Helper()
	for range 6000 {
		if ok(m.status()) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	d.Fatalf("%s is not %s: %+v", m.name, what, m.status())
}

func standAlone(f face.Resource) bool { return f.Peers[0].Conn == state.StandAlone }

// part lets both sides go on alone: alice writes blocks 10 to 14, bob 12 and 13, unless he is to change nothing.
func (d *duo) part(alicePrimary, bobPrimary, bobWrites bool) {
	d.Helper()
	d.verb(d.alice, "disconnect")
	d.verb(d.bob, "disconnect")
	d.write(d.alice, "alice", 10, 11, 12, 13, 14)
	d.verb(d.bob, "primary")
	if bobWrites {
		d.write(d.bob, "bob", 12, 13)
	}
	if !alicePrimary {
		d.verb(d.alice, "secondary")
	}
	if !bobPrimary {
		d.verb(d.bob, "secondary")
	}
}

// TestAfterSplitBrain: for each policy who wins, and what its data says; or that nobody does.
func TestAfterSplitBrain(t *testing.T) {
	const nobodyWins = ""
	for _, c := range []struct {
		name, net, netBob string // netBob: as alice's where empty
		alice, bob        bool   // Primary as they meet
		bobWrites         bool
		winner            string
		demoted           string // who is Secondary afterwards though Primary before
	}{
		{name: "0pri disconnect", bobWrites: true},
		{name: "0pri zero changes", net: "after-sb-0pri discard-zero-changes;", winner: "alice"},
		{name: "0pri zero changes, both have some", net: "after-sb-0pri discard-zero-changes;", bobWrites: true},
		{name: "0pri least changes", net: "after-sb-0pri discard-least-changes;", bobWrites: true, winner: "alice"},
		{name: "0pri younger primary", net: "after-sb-0pri discard-younger-primary;", bobWrites: true, winner: "alice"},
		{name: "0pri older primary", net: "after-sb-0pri discard-older-primary;", bobWrites: true, winner: "bob"},
		{name: "0pri local", net: "after-sb-0pri discard-local;", netBob: "after-sb-0pri discard-remote;", bobWrites: true, winner: "bob"},
		{name: "0pri remote", net: "after-sb-0pri discard-remote;", netBob: "after-sb-0pri discard-local;", bobWrites: true, winner: "alice"},
		{name: "1pri disconnect", net: "after-sb-0pri discard-least-changes;", alice: true, bobWrites: true},
		{name: "1pri consensus", net: "after-sb-0pri discard-least-changes; after-sb-1pri consensus;", alice: true, bobWrites: true, winner: "alice"},
		{name: "1pri consensus, the victim is Primary", net: "after-sb-0pri discard-least-changes; after-sb-1pri consensus;", bob: true, bobWrites: true},
		{name: "1pri secondary", net: "after-sb-1pri discard-secondary;", bob: true, bobWrites: true, winner: "bob"},
		{name: "1pri violently, the Secondary loses", net: "after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p;", alice: true, bobWrites: true, winner: "alice"},
		{name: "1pri violently, rr-conflict forbids", net: "after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p;", bob: true, bobWrites: true},
		{name: "1pri violently", net: "after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p; rr-conflict violently;", bob: true, bobWrites: true, winner: "alice", demoted: "bob"},
		{name: "1pri call-pri-lost", net: "after-sb-0pri discard-least-changes; after-sb-1pri call-pri-lost-after-sb;", bob: true, bobWrites: true, winner: "alice", demoted: "bob"},
		{name: "2pri disconnect", net: "after-sb-0pri discard-least-changes;", alice: true, bob: true, bobWrites: true},
		{name: "2pri violently", net: "after-sb-0pri discard-least-changes; after-sb-2pri violently-as0p; rr-conflict violently;", alice: true, bob: true, bobWrites: true, winner: "alice", demoted: "bob"},
		{name: "2pri call-pri-lost", net: "after-sb-0pri discard-least-changes; after-sb-2pri call-pri-lost-after-sb;", alice: true, bob: true, bobWrites: true, winner: "alice", demoted: "bob"},
		{name: "rr-conflict call-pri-lost", net: "after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p; rr-conflict call-pri-lost;", bob: true, bobWrites: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.netBob == "" {
				c.netBob = c.net
			}
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				d := pairUp(t, dir, c.net, c.netBob, "")
				d.part(c.alice, c.bob, c.bobWrites)
				d.verb(d.alice, "connect")
				d.verb(d.bob, "connect")
				if c.winner == nobodyWins {
					d.await(d.alice, "StandAlone", standAlone)
					d.await(d.bob, "StandAlone", standAlone)
					d.holds(d.alice, 12, "alice")
					if c.bobWrites {
						d.holds(d.bob, 12, "bob")
					}
					return
				}
				d.settled()
				for _, m := range []*machine{d.alice, d.bob} {
					d.holds(m, 12, c.winner)
					if c.demoted == m.name && m.status().Role == state.Primary {
						t.Errorf("%s lost and is still Primary", m.name)
					}
				}
			})
		})
	}
}

// settled waits until both sides are in sync, makes somebody Primary so that everything can be flushed, and compares the disks.
func (d *duo) settled() {
	d.Helper()
	if err := d.wait("in sync", func(a, b face.Resource) bool { return inSync(a) && inSync(b) }); err != nil {
		d.Fatal(err)
	}
	d.primary, d.secondary = d.alice, d.bob
	if d.bob.status().Role == state.Primary {
		d.primary, d.secondary = d.bob, d.alice
	}
	d.verb(d.primary, "primary")
	if err := d.equal(); err != nil {
		d.Fatal(err)
	}
}

// TestAlwaysASBP: where both sides went on from a past that they share, and not from one generation, policies count only with always-asbp, and
// then everything is sent.
func TestAlwaysASBP(t *testing.T) {
	for _, always := range []bool{false, true} {
		t.Run(fmt.Sprint(always), func(t *testing.T) {
			dir := t.TempDir()
			net := "after-sb-0pri discard-least-changes;"
			if always {
				net += " always-asbp yes;"
			}
			synctest.Test(t, func(t *testing.T) {
				d := pairUp(t, dir, net, net, "")
				d.part(false, false, true)
				// Alice's bitmap is counted against another generation by now: the shared one is in her past.
				d.verb(d.alice, "down")
				said, err := d.alice.ask("get-gi", nil)
				if err != nil {
					t.Fatal(err)
				}
				gi := strings.Split(said[0], ":")
				gi[1], gi[2], gi[3] = "0", gi[1], "0"
				if _, err := d.alice.ask("set-gi", map[string]string{"gi": strings.Join(gi, ":"), "force": "yes"}); err != nil {
					t.Fatal(err)
				}
				d.verb(d.alice, "up")
				d.verb(d.bob, "connect")
				if !always {
					d.await(d.alice, "StandAlone", standAlone)
					d.holds(d.bob, 12, "bob")
					d.holds(d.alice, 12, "alice")
					return
				}
				d.settled()
				winner := "alice"
				if !strings.Contains(d.log.String(), "Doing a full sync, since UUIDs where ambiguous.") {
					t.Error("it was not a full sync")
				}
				got := make([]byte, 4096)
				if err := d.alice.disks[0].ReadAt(got, 12*4096); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, filled("alice")) {
					winner = "bob"
				}
				d.holds(d.alice, 13, winner)
				d.holds(d.bob, 13, winner)
			})
		})
	}
}
