package fec

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var keyA, keyB = []byte("the one direction"), []byte("the other direction")

// way is a Protector and a Repairer, and what passes between them.
type way struct {
	p    *Protector
	r    *Repairer
	mu   sync.Mutex
	made map[string]uint16 // packets made anew, with their lanes
	out  [][]byte          // datagrams of the Protector that were not handed over
	hold bool
}

func newWay() *way {
	w := &way{made: map[string]uint16{}}
	w.r = NewRepairer(keyA, keyB, func(lane uint16, b []byte) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.made[string(b)] = lane
	}, func(b []byte) { w.p.Report(b) })
	w.p = NewProtector(keyA, keyB, func(_ uint16, b []byte) {
		if w.hold {
			w.out = append(w.out, bytes.Clone(b))
			return
		}
		w.r.Parity(b, time.Now())
	})
	return w
}

// lane is where a packet that was made anew belongs, 0 if it was not.
func (w *way) lane(packet []byte) uint16 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.made[string(packet)]
}

func packetOf(rng *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	_, _ = rng.Read(b) // never fails
	b[0] = 0x40
	return b
}

// prime has the Repairer make room: it does so with the first parity.
func (w *way) prime(rng *rand.ChaCha8) {
	for range GroupSize {
		w.p.Sent(1, packetOf(rng, 1200))
	}
}

// As many packets of a group as there are rows may be lost, whichever they are and however long; one more may not.
func TestRepairs(t *testing.T) {
	for rows := 1; rows <= MaxRows; rows++ {
		for lose := 0; lose <= rows+1; lose++ {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.NewChaCha8([32]byte{byte(rows), byte(lose)})
				pick := rand.New(rng)
				w := newWay()
				defer w.p.Close()
				w.p.SetRows(rows)
				w.prime(rng)
				for range 200 {
					clear(w.made)
					lost := pick.Perm(GroupSize)[:lose]
					gone := map[string]uint16{}
					for i := range GroupSize {
						b := packetOf(rng, smallestOne+pick.IntN(largestOne-smallestOne+1))
						lane := uint16(pick.IntN(64))
						isLost := false
						for _, l := range lost {
							isLost = isLost || l == i
						}
						if isLost {
							gone[string(b)] = lane
						} else {
							w.r.Received(b)
						}
						w.p.Sent(lane, b)
					}
					if lose > rows {
						if len(w.made) != 0 {
							t.Fatalf("%d of %d lost behind %d rows, and %d made anew", lose, GroupSize, rows, len(w.made))
						}
						continue
					}
					if len(w.made) != lose {
						t.Fatalf("%d of %d lost behind %d rows, %d made anew", lose, GroupSize, rows, len(w.made))
					}
					for b, lane := range gone {
						if got, ok := w.made[b]; !ok || got != lane {
							t.Fatalf("a packet of lane %d came back as one of lane %d (%v)", lane, got, ok)
						}
					}
				}
			})
		}
	}
}

// A group that does not fill is protected too, after a moment.
func TestTailIsProtected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.NewChaCha8([32]byte{1})
		w := newWay()
		defer w.p.Close()
		w.p.SetRows(1)
		w.prime(rng)
		kept, lost := packetOf(rng, 300), packetOf(rng, 1400)
		w.r.Received(kept)
		w.p.Sent(3, kept)
		w.p.Sent(4, lost)
		if w.lane(lost) != 0 {
			t.Fatal("made anew before there was parity")
		}
		time.Sleep(flushAfter)
		synctest.Wait()
		if lane := w.lane(lost); lane != 4 {
			t.Fatalf("of lane %d", lane)
		}
	})
}

// Pieces and rows may come in any order, and twice; an original that comes late is no harm.
func TestParityInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.NewChaCha8([32]byte{2})
		pick := rand.New(rng)
		w := newWay()
		defer w.p.Close()
		w.p.SetRows(2)
		w.prime(rng)
		w.hold = true
		for range 50 {
			clear(w.made)
			w.out = nil
			var all [][]byte
			for i := range GroupSize {
				b := packetOf(rng, largestOne)
				all = append(all, b)
				if i > 1 {
					w.r.Received(b)
				}
				w.p.Sent(0, b)
			}
			w.out = append(w.out, w.out...) // twice
			pick.Shuffle(len(w.out), func(i, j int) { w.out[i], w.out[j] = w.out[j], w.out[i] })
			for _, b := range w.out {
				w.r.Parity(b, time.Now())
			}
			w.r.Received(all[0])
			if len(w.made) != 2 {
				t.Fatalf("%d made anew", len(w.made))
			}
		}
		// One of the two lost came late. The first group, before there was room, counts as lost.
		if c := w.r.Counts(); c.Missing != 51-groupsKept-1+GroupSize || c.Repaired != 51-groupsKept-1 || c.Covered != (51-groupsKept)*GroupSize {
			t.Errorf("%+v", c)
		}
	})
}

// Nothing that is not authentic is taken, whatever bit of a head is wrong, and nobody's memory grows for it.
func TestForgeriesAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.NewChaCha8([32]byte{3})
		w := newWay()
		defer w.p.Close()
		w.p.SetRows(1)
		w.hold = true
		w.prime(rng)
		good := w.out[0]
		head := parityHead + GroupSize*nameSize
		for i := range head * 8 {
			bad := bytes.Clone(good)
			bad[i/8] ^= 1 << (i % 8)
			w.r.Parity(bad, time.Now())
		}
		for n := range good {
			w.r.Parity(good[:n], time.Now())
		}
		stranger := NewRepairer(keyB, keyA, nil, nil)
		stranger.Parity(good, time.Now())
		if w.r.ring != nil || stranger.ring != nil || w.r.groups[1].known {
			t.Error("a forgery was taken")
		}
		w.r.Parity(good, time.Now())
		if !w.r.groups[1].known {
			t.Error("the good one was not taken")
		}
	})
}

// A peer that knows the key and lies makes nothing but packets that QUIC throws away: bounds hold.
func TestLiesOfAPeer(t *testing.T) {
	mac := newMAC(keyA)
	r := NewRepairer(keyA, keyB, func(_ uint16, b []byte) {
		if len(b) > largestOne {
			t.Errorf("a packet of %d bytes", len(b))
		}
	}, func([]byte) {})
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		p := parity{group: uint32(rng.IntN(4)), k: uint8(rng.IntN(GroupSize + 3)), m: uint8(rng.IntN(MaxRows + 2)), row: uint8(rng.IntN(MaxRows + 1)),
			from: uint16(rng.IntN(3) * pieceSize), width: uint16(rng.IntN(shardSize + 50))}
		p.names = make([]byte, nameSize*int(p.k))
		p.data = make([]byte, rng.IntN(pieceSize+20))
		if rng.IntN(2) == 0 && int(p.from) < int(p.width) {
			p.data = make([]byte, min(pieceSize, int(p.width)-int(p.from)))
		}
		for i := range p.data {
			p.data[i] = byte(rng.Uint32())
		}
		r.Parity(p.append(nil, mac), time.Unix(0, 0))
	}
}

func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.NewChaCha8([32]byte{4})
		w := newWay()
		defer w.p.Close()
		w.p.SetRows(1)
		w.prime(rng)
		const groups = groupsKept + 5
		for i := range groups * GroupSize {
			b := packetOf(rng, 1000)
			if i%GroupSize != 7 {
				w.r.Received(b)
			}
			if i == (groups-1)*GroupSize {
				time.Sleep(reportPause)
			}
			w.p.Sent(0, b)
		}
		want := Counts{Covered: 6 * GroupSize, Missing: GroupSize + 5, Repaired: 5} // the first, before there was room, and five more
		got, sent := w.p.Counts()
		if got != want || sent == 0 {
			t.Errorf("reported %+v, want %+v", got, want)
		}
		old := Counts{Covered: 1}.append(nil, newMAC(keyB))
		w.p.Report(old)
		forged := Counts{Covered: 1 << 40}.append(nil, newMAC(keyA))
		w.p.Report(forged)
		if again, _ := w.p.Counts(); again != want {
			t.Errorf("an old or forged report was taken: %+v", again)
		}
	})
}

func FuzzParity(f *testing.F) {
	p := parity{k: 2, m: 1, width: 300, names: make([]byte, 2*nameSize), data: make([]byte, 300)}
	f.Add(p.append(nil, newMAC(keyA)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > parityHead { // as from a peer that knows the key
			if head := parityHead + nameSize*int(b[1+macSize+4]); len(b) > head {
				b = bytes.Clone(b)
				b[0] = kindParity
				seal(newMAC(keyA), b, head)
			}
		}
		r := NewRepairer(keyA, keyB, func(_ uint16, b []byte) {
			if !protects(b) {
				t.Errorf("a packet of %d bytes was made", len(b))
			}
		}, func([]byte) {})
		r.Parity(b, time.Unix(0, 0))
		r.Parity(b, time.Unix(9, 0))
		NewProtector(keyB, keyA, nil).Report(b)
	})
}

func BenchmarkProtect(b *testing.B) {
	rng := rand.NewChaCha8([32]byte{5})
	packet := packetOf(rng, 1452)
	p := NewProtector(keyA, keyB, func(uint16, []byte) {})
	defer p.Close()
	p.SetRows(1)
	b.SetBytes(int64(len(packet)))
	for i := range b.N {
		binary.BigEndian.PutUint32(packet[len(packet)-4:], uint32(i))
		p.Sent(0, packet)
	}
}

func BenchmarkRemember(b *testing.B) {
	rng := rand.NewChaCha8([32]byte{5})
	packet := packetOf(rng, 1452)
	r := NewRepairer(keyA, keyB, nil, nil)
	r.begin()
	b.SetBytes(int64(len(packet)))
	for i := range b.N {
		binary.BigEndian.PutUint32(packet[len(packet)-4:], uint32(i))
		r.Received(packet)
	}
}
