// Goodput measures what a session of the link carries over whatever lies between two addresses, without journals and disks.
//
//	goodput recv -listen 10.77.0.2:7799
//	goodput send -listen 10.77.0.1:7799 -to 10.77.0.2:7799 -for 20s -skip 5s
//
// The sender keeps the data lane full of messages of random bytes, or sends at -rate, and prints each second how many
// Mbit/s arrived, over how many stripes, with what round trip. Its last line is the mean behind -skip, and how long
// messages took where -rate leaves the line room.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"drship/internal/block"
	"drship/wan"
	"drship/wan/frame"
)

type options struct {
	listen, to string
	span, skip time.Duration
	size       int
	rate       float64
	ceiling    int64
	stripes    int
	verbose    bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "goodput:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] != "send" && args[0] != "recv" {
		return errors.New("send or recv")
	}
	var o options
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	fs.StringVar(&o.listen, "listen", "127.0.0.1:7799", "own address")
	fs.StringVar(&o.to, "to", "", "the other side's address; empty: wait for it")
	fs.DurationVar(&o.span, "for", 20*time.Second, "how long to send")
	fs.DurationVar(&o.skip, "skip", 5*time.Second, "seconds at the start that do not count")
	fs.IntVar(&o.size, "size", 1<<20, "bytes of a message")
	fs.Float64Var(&o.rate, "rate", 0, "Mbit/s to send; 0: all that the line takes")
	fs.Int64Var(&o.ceiling, "ceiling", 0, "bytes a second that may be sent, headers included; 0: no ceiling")
	fs.IntVar(&o.stripes, "stripes", 0, "connections at most; 0: the default")
	fs.BoolVar(&o.verbose, "v", false, "tell what the link does")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	name, peer := "alice", "bob"
	if args[0] == "recv" {
		name, peer = peer, name
	}
	return withSession(ctx, o, name, peer, func(ctx context.Context, s *wan.Session) error {
		if args[0] == "recv" {
			return receive(ctx, s)
		}
		s.SetCeiling(o.ceiling)
		return send(ctx, s, o)
	})
}

// withSession brings a session up, runs fn on it, and ends it.
func withSession(ctx context.Context, o options, name, peer string, fn func(context.Context, *wan.Session) error) error {
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	e, err := wan.NewEndpoint(wan.Config{Resource: "goodput", Node: name, Listen: o.listen, Peers: []wan.Peer{{Name: peer, Addr: o.to}},
		Trust: wan.Trust{HMACAlg: "sha256", Secret: "goodput"}, MaxStripes: o.stripes,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	e.Want(peer, true)
	s, err := e.Accept(ctx)
	if err == nil {
		err = fn(ctx, s)
		s.Close(nil)
	}
	cancel()
	return errors.Join(err, <-ran)
}

// receive tells the sender of each message when it was there.
func receive(ctx context.Context, s *wan.Session) error {
	for {
		m, err := s.Recv(ctx, frame.Data)
		if err != nil {
			if errors.Is(err, wan.ErrPeerClosed) {
				return nil
			}
			return err
		}
		if err := s.Send(ctx, &frame.Ack{Received: m.(*frame.Batch).Last}); err != nil {
			return err
		}
	}
}

// flights is what is known of the messages under way.
type flights struct {
	sent  chan time.Time
	delay []time.Duration // of those that were answered
}

func send(ctx context.Context, s *wan.Session, o options) error {
	ctx, cancel := context.WithTimeout(ctx, o.span)
	defer cancel()
	f := &flights{sent: make(chan time.Time, 1<<16)}
	done := make(chan error, 1)
	go func() { done <- count(ctx, s, f, o) }()
	payload := make([]byte, o.size)
	if _, err := rand.Read(payload); err != nil {
		return err
	}
	began := time.Now()
	for i := uint64(0); ctx.Err() == nil; i++ {
		if o.rate > 0 {
			due := began.Add(time.Duration(float64(i) * float64(o.size) * 8 / o.rate * float64(time.Microsecond)))
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
			}
		}
		f.sent <- time.Now()
		m := &frame.Batch{Prev: block.Seq{Epoch: 1, Num: i}, Last: block.Seq{Epoch: 1, Num: i + 1}, RawLen: uint32(o.size), Payload: payload}
		if err := s.Send(ctx, m); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return <-done
}

// count takes the acknowledgements and prints what they say.
func count(ctx context.Context, s *wan.Session, f *flights, o options) error {
	began := time.Now()
	next := began.Add(time.Second)
	got, counted, before := 0, 0, 0
	var from time.Time
	for {
		_, err := s.Recv(ctx, frame.Control)
		now := time.Now()
		if err != nil || now.After(next) {
			report(s, now.Sub(began), float64(got-before)*8/(now.Sub(next)+time.Second).Seconds()/1e6)
			next, before = now.Add(time.Second), got
		}
		if err != nil {
			if ctx.Err() == nil {
				return err
			}
			break
		}
		got += o.size
		sent := <-f.sent
		if now.Sub(began) >= o.skip {
			if from.IsZero() {
				from = now
				continue
			}
			counted += o.size
			f.delay = append(f.delay, now.Sub(sent))
		}
	}
	if from.IsZero() || len(f.delay) == 0 {
		return errors.New("nothing arrived in time")
	}
	slices.Sort(f.delay)
	n := len(f.delay)
	fmt.Printf("mean %.1f Mbit/s, answered after p50 %v p99 %v\n", float64(counted)*8/time.Since(from).Seconds()/1e6,
		f.delay[n/2].Round(100*time.Microsecond), f.delay[n*99/100].Round(100*time.Microsecond))
	return nil
}

func report(s *wan.Session, at time.Duration, rate float64) {
	st := s.Stats()
	loss := 0.0
	if st.PacketsSent > 0 {
		loss = 100 * float64(st.PacketsLost) / float64(st.PacketsSent)
	}
	fmt.Printf("%4.0f s %8.1f Mbit/s, %d of %d stripes, rtt %v, window %d KiB, lost %.3f %%, sent twice %d KiB, wire %.1f MB\n", at.Seconds(), rate, st.Wanted, st.Stripes,
		st.RTT.Round(100*time.Microsecond), st.Window>>10, loss, st.Resent>>10, float64(st.WireSent)/1e6)
}
