package sim

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"drship/wan/frame"
)

// TestOlderPeer: a node of the wire version before this one, and one of the version after it, are not talked to: both sides say why, the Primary serves on
// and counts what the peer lacks, the peer's disk stays as it is. Once both speak the same version, both are in sync by what was written meanwhile.
func TestOlderPeer(t *testing.T) {
	for _, version := range []uint8{frame.Version - 1, frame.Version + 1} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			d := pairUp(t, dir, "", "", "")
			d.write(d.alice, "both", 1)
			time.Sleep(10 * time.Second)
			d.bob.stop()
			d.bob.wire = version
			start := func() {
				t.Helper()
				if err := d.bob.start(); err != nil {
					t.Fatal(err)
				}
				d.verb(d.bob, "up")
			}
			start()
			d.write(d.alice, "alice alone", 1, 2)
			time.Sleep(time.Minute)
			if s := d.alice.status(); s.Peers[0].LagBytes != 8192 {
				t.Errorf("version %d: the peer is said to lack %d bytes", version, s.Peers[0].LagBytes)
			}
			for _, says := range []string{fmt.Sprintf("the peer speaks %d…%d, this side %d", version, version, frame.Version), fmt.Sprintf("this side %d\"", version)} {
				if !strings.Contains(d.log.String(), says) {
					t.Errorf("version %d: nobody says %q", version, says)
				}
			}
			d.holds(d.bob, 1, "both")
			d.bob.stop()
			d.bob.wire = 0
			start()
			d.settled()
			d.holds(d.bob, 2, "alice alone")
		})
	}
}
