// Package emu is the model of one direction of a line: what becomes of each packet, and when it arrives. It has no clock, no
// goroutine and no I/O: time goes in as a number, so that a test runs hours of it at once and a forwarder runs it in real
// time (bench/wan/tun).
//
// A packet passes these stages, in this order:
//
//	cut      a line that is cut drops everything
//	queue    a drop-tail queue, bounded in bytes
//	rate     it leaves when everything before it has left
//	loss     random, or in bursts (Gilbert-Elliott); what is lost has used the line
//	corrupt  one bit of it will be wrong
//	copy     it arrives twice
//	delay    it arrives Delay later, give or take Jitter; order is kept
//	reorder  but for those that are held back, which others overtake
//
// All draws come from one seed: the same packets at the same times have the same fate.
package emu

import (
	"errors"
	"fmt"
	"time"
)

// Params is how one direction treats packets. The zero value passes everything at once.
type Params struct {
	Delay  time.Duration // one way
	Jitter time.Duration // the delay wanders between Delay-Jitter and Delay+Jitter, slowly enough that order is kept
	Rate   int64         // bits a second, of IP packets with their headers; 0: no limit
	Queue  int64         // bytes that may wait for Rate; 0: see Room

	Loss    float64 // share of packets lost, 0…1
	Burst   float64 // mean length of a row of losses, in packets; up to 1: losses are independent
	Gilbert Gilbert // where Enter is set, it stands in place of Loss and Burst

	Reorder   float64       // share of packets held back
	ReorderBy time.Duration // for how long; 0: DefaultReorderBy
	Duplicate float64       // share of packets that arrive twice
	Corrupt   float64       // share of packets with one bit flipped
	Forge     bool          // what is corrupted passes the checksum: only the application can notice
}

// Gilbert is a line with two states (Gilbert-Elliott). Each packet is first lost or not by the state, then the state may change.
type Gilbert struct {
	Enter    float64 // chance, a packet, to go from the good state to the bad one
	Leave    float64 // and back
	LossGood float64 // share lost in the good state
	LossBad  float64 // and in the bad one
}

// DefaultReorderBy is how long a packet is held back where nothing else is said.
const DefaultReorderBy = 5 * time.Millisecond

// minRoom is the smallest queue that a line has by itself, in bytes: 100 full packets.
const minRoom = 150_000

// Bursts is the chain whose losses come in rows of mean length, loss of all packets in all.
func Bursts(loss, length float64) Gilbert {
	leave := 1 / length
	return Gilbert{Enter: leave * loss / (1 - loss), Leave: leave, LossBad: 1}
}

// chain is the loss as a chain of two states.
func (p *Params) chain() Gilbert {
	switch {
	case p.Gilbert.Enter > 0:
		return p.Gilbert
	case p.Burst > 1 && p.Loss > 0:
		return Bursts(p.Loss, p.Burst)
	}
	return Gilbert{LossGood: p.Loss}
}

// Room is how many bytes may wait for Rate: Queue, or what the line carries in two delays, at least 150 kB.
func (p *Params) Room() int64 {
	if p.Queue > 0 {
		return p.Queue
	}
	return max(minRoom, int64(float64(p.Rate)/8*2*p.Delay.Seconds()))
}

// Bounds of what a line may be asked for.
const (
	maxDelay = time.Minute
	maxRate  = 100_000_000_000
)

// Check says what is wrong with the parameters.
func (p *Params) Check() error {
	for _, s := range []struct {
		name  string
		share float64
	}{{"loss", p.Loss}, {"reorder", p.Reorder}, {"duplicate", p.Duplicate}, {"corrupt", p.Corrupt}, {"ge enter", p.Gilbert.Enter},
		{"ge leave", p.Gilbert.Leave}, {"ge loss in the good state", p.Gilbert.LossGood}, {"ge loss in the bad state", p.Gilbert.LossBad}} {
		if !(s.share >= 0 && s.share <= 1) {
			return fmt.Errorf("%s is a share between 0 and 100 %%, not %v", s.name, s.share)
		}
	}
	switch {
	case p.Delay < 0 || p.Delay > maxDelay:
		return fmt.Errorf("delay lies between 0 and %v, not at %v", maxDelay, p.Delay)
	case p.Jitter < 0 || p.Jitter > p.Delay:
		return fmt.Errorf("jitter lies between 0 and the delay, %v, not at %v", p.Delay, p.Jitter)
	case p.ReorderBy < 0 || p.ReorderBy > maxDelay:
		return fmt.Errorf("reorder-by lies between 0 and %v, not at %v", maxDelay, p.ReorderBy)
	case p.Rate < 0 || p.Rate > maxRate:
		return fmt.Errorf("rate lies between 0 and %d bits a second, not at %d", int64(maxRate), p.Rate)
	case p.Queue < 0 || p.Queue > MaxHeld:
		return fmt.Errorf("queue lies between 0 and %d bytes, not at %d", int64(MaxHeld), p.Queue)
	case p.Burst < 0:
		return errors.New("burst is a mean length in packets, from 1 on")
	case p.Burst > 1 && p.chain().Enter > 1:
		return fmt.Errorf("a loss of %v cannot come in bursts as short as %v packets", p.Loss, p.Burst)
	case p.Gilbert.Enter > 0 && p.Gilbert.Leave == 0:
		return errors.New("ge needs a way out of the bad state")
	}
	return nil
}
