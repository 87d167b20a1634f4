package sim

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"drship/internal/face"
	"drship/internal/state"
)

// rates is a pair about which rates are asked, in virtual time: where the line is slow, processor and disks are not.
type rates struct {
	*testing.T
	*run
	log lockedBuffer
}

func withRates(outer *testing.T, p plan, way line, do func(r *rates)) {
	outer.Helper()
	dir := outer.TempDir()
	p.seed, p.protocol, p.volumes = 1, 'A', 1
	synctest.Test(outer, func(t *testing.T) {
		r := &rates{T: t}
		r.run = newRun(p, dir, &r.log)
		defer r.close()
		r.world.set(way)
		if err := r.create(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if outer.Failed() || t.Failed() {
				t.Log(r.log.String())
			}
		}()
		do(r)
	})
}

// write writes pieces of n bytes at random, a rate of bytes a second, until stop is called.
func (r *rates) write(rate float64, n int64) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	v, err := r.primary.open(0)
	if err != nil {
		r.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		defer v.close()
		rng := rand.New(rand.NewPCG(9, 9))
		size := r.primary.disks[0].Size()
		buf := make([]byte, n)
		for ctx.Err() == nil {
			for i := 0; i < len(buf); i += 4 {
				x := rng.Uint32()
				buf[i], buf[i+1], buf[i+2], buf[i+3] = byte(x), byte(x>>8), byte(x>>16), byte(x>>24)
			}
			if err := v.WriteAt(context.Background(), buf, rng.Int64N((size-n)/4096)*4096, false); err != nil {
				r.Error(err)
				return
			}
			select {
			case <-time.After(time.Duration(rng.ExpFloat64() * float64(n) / rate * float64(time.Second))):
			case <-ctx.Done():
			}
		}
	})
	return func() { cancel(); work.Wait() }
}

func (r *rates) peer() (*face.Peer, *face.PeerVolume) {
	f := r.primary.status()
	if len(f.Peers) == 0 || len(f.Peers[0].Volumes) == 0 {
		r.Fatal("no status")
	}
	return &f.Peers[0], &f.Peers[0].Volumes[0]
}

// A line of 1 Mbit/s and writers of twice that, for ten minutes: Ahead once, never again within a minute, then a resync with all of the
// line that says that it cannot win and what would let it. Once the writers do as it says, both sides are in sync.
func TestWritersAreFasterThanTheLine(t *testing.T) {
	const lineRate = 1_000_000 / 8
	withRates(t, plan{journal: "2M", dwell: time.Minute, bits: lineRate * 8}, line{delay: 10 * time.Millisecond}, func(r *rates) {
		stop := r.write(2*lineRate, 16<<10)
		type change struct {
			at time.Time
			to state.Conn
		}
		var changes []change
		var why string
		for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
			_, v := r.peer()
			if n := len(changes); n == 0 || changes[n-1].to != v.Conn {
				changes = append(changes, change{time.Now(), v.Conn})
			}
			if v.Sync != nil && strings.Contains(v.Sync.Why, "cannot win") { // now and then it tries whether it can
				why = v.Sync.Why
			}
		}
		stop()
		var aheads []time.Time
		for i, c := range changes {
			if c.to == state.Ahead || i > 0 && changes[i-1].to == state.Ahead {
				aheads = append(aheads, c.at)
			}
		}
		for i := 1; i < len(aheads); i++ {
			if gap := aheads[i].Sub(aheads[i-1]); gap < 59*time.Second {
				t.Errorf("Ahead entered or left again after %v: %v", gap, changes)
			}
		}
		if len(aheads) != 2 || changes[len(changes)-1].to != state.SyncSource {
			t.Errorf("not once Ahead and then a resync for good: %v", changes)
		}
		if !strings.Contains(why, "stay below") {
			t.Errorf("the status says %q", why)
		}
		t.Log(why)
		slow := r.write(lineRate/5, 16<<10)
		if err := r.wait("in sync", func(a, b face.Resource) bool {
			return a.Peers[0].Volumes[0].Conn == state.Connected && b.Volumes[0].Disk == state.UpToDate
		}); err != nil {
			t.Error(err)
		}
		slow()
		if err := r.equal(); err != nil {
			t.Error(err)
		}
	})
}

// lag samples how far the peer is behind while writers write: the mean and the 95th per cent.
func (r *rates) lag(lasting time.Duration) (mean, high time.Duration) {
	var all []time.Duration
	rng := rand.New(rand.NewPCG(4, 4))
	var sum time.Duration
	for end := time.Now().Add(lasting); time.Now().Before(end); {
		time.Sleep(time.Duration(rng.Int64N(int64(40 * time.Millisecond))))
		p, _ := r.peer()
		all = append(all, p.LagTime)
		sum += p.LagTime
	}
	slices.Sort(all)
	return sum / time.Duration(len(all)), all[len(all)*95/100]
}

// A resync beside writers costs them no more than a tenth of lag: a line of 100 Mbit/s and 50 ms round trip.
func TestLagBesideAResync(t *testing.T) {
	const lineRate = 100_000_000 / 8
	withRates(t, plan{journal: "1G", size: 128 << 20, carried: true, bits: lineRate * 8}, line{delay: 25 * time.Millisecond}, func(r *rates) {
		stop := r.write(lineRate/10, 8<<10)
		defer stop()
		time.Sleep(5 * time.Second)
		mean, high := r.lag(20 * time.Second)
		if err := r.secondary.do("invalidate"); err != nil {
			t.Fatal(err)
		}
		if err := r.wait("SyncSource", func(a, _ face.Resource) bool { return a.Peers[0].Volumes[0].Conn == state.SyncSource }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // the line is probed once, at the start
		meanBeside, highBeside := r.lag(20 * time.Second)
		_, v := r.peer()
		if v.Conn != state.SyncSource || v.Sync == nil {
			t.Fatalf("the resync was over: %v", v.Conn)
		}
		t.Logf("lag: mean %v, 95 %% %v; beside a resync of %d bytes/s (want %d, %s): mean %v, 95 %% %v",
			mean, high, v.Sync.Rate, v.Sync.Want, v.Sync.Why, meanBeside, highBeside)
		if meanBeside*10 > mean*11 {
			t.Errorf("lag grew from %v to %v", mean, meanBeside)
		}
		if v.Sync.Rate < lineRate*20/100 || v.Sync.Rate > lineRate*35/100 {
			t.Errorf("the resync moves %d bytes/s on a line of %d", v.Sync.Rate, lineRate)
		}
	})
}

// The peer's disk is the bottleneck: a resync takes 30 % of that.
func TestThePeersDiskIsTheBottleneck(t *testing.T) {
	const moves = 20_000_000
	withRates(t, plan{journal: "1G", size: 128 << 20, carried: true, bits: 1e9, bobDisk: moves}, line{delay: time.Millisecond}, func(r *rates) {
		if err := r.secondary.do("invalidate"); err != nil {
			t.Fatal(err)
		}
		if err := r.wait("a pace by the peer's disk", func(a, _ face.Resource) bool {
			v := a.Peers[0].Volumes[0]
			return v.Conn == state.SyncSource && v.Sync != nil && strings.Contains(v.Sync.Why, "peer's disk")
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * time.Second)
		_, v := r.peer()
		if v.Sync == nil {
			t.Fatalf("the resync was over: %v", v.Conn)
		}
		t.Logf("%d bytes/s of %d wanted, %s", v.Sync.Rate, v.Sync.Want, v.Sync.Why)
		if v.Sync.Want < moves*27/100 || v.Sync.Want > moves*33/100 {
			t.Errorf("it wants %d bytes/s towards a disk of %d", v.Sync.Want, moves)
		}
		if v.Sync.Rate < moves*20/100 || v.Sync.Rate > moves*35/100 {
			t.Errorf("it moves %d bytes/s towards a disk of %d", v.Sync.Rate, moves)
		}
	})
}
