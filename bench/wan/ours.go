package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"drship/bench/pair"
	"drship/bench/wan/tun"
	"drship/cmd/drship/control"
	"drship/internal/face"
)

const (
	volumeSize = 512 << 20
	writeSize  = 256 << 10
	writers    = 8
	// backlog is what may wait for the line, in bytes: several times what the longest fat line holds, so that it is never empty.
	backlog = 64 << 20
	// watchPause is how often the node is asked how far its peer is.
	watchPause = 20 * time.Millisecond
	// stretch is how many times the span is waited until the peer has staged something twice: a slow line takes seconds for a batch.
	stretch      = 3
	restPatience = 2 * time.Minute
)

// ours is a real pair under writes of random data, by protocol A.
type ours struct {
	pair   *pair.Pair
	alice  *pair.Node
	volume *pair.Volume
	status [2]*control.Client // of alice and bob
}

// newOurs brings up a pair at the ends of a line that has no limits yet.
func newOurs(ctx context.Context, l *tun.Line, binary, dir string, wan []string) (*ours, error) {
	o := pair.Options{Binary: binary, Dir: filepath.Join(dir, "pair"), Sizes: []int64{volumeSize}, Protocol: "A",
		WAN: append([]string{"compression off"}, wan...)}
	o.Over(l)
	p, err := pair.New(o)
	if err != nil {
		return nil, err
	}
	s := &ours{pair: p, alice: p.Node("alice")}
	bound, cancel := context.WithTimeout(ctx, restPatience)
	defer cancel()
	if err := errors.Join(p.Create(bound), p.Sync(bound)); err != nil {
		return nil, errors.Join(fmt.Errorf("bring up a pair: %w", err), s.close())
	}
	if s.volume, err = s.alice.Open(ctx, 0); err != nil {
		return nil, errors.Join(err, s.close())
	}
	for i, n := range p.Nodes {
		s.status[i] = control.Dial(control.SocketPath(n.RunDir()))
	}
	return s, nil
}

func (s *ours) close() error {
	if s.volume != nil {
		s.volume.Close()
	}
	for _, c := range s.status {
		if c != nil {
			c.Close()
		}
	}
	return errors.Join(s.pair.Close(), s.pair.Remove())
}

func (s *ours) name() string { return "drship" }

func (s *ours) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restPatience)
	defer cancel()
	_, err := s.alice.Wait(ctx, "the peer to have everything", func(st pair.Status) bool { return st.InSync() && st.Drained() })
	return err
}

// ask returns what a node, 0 for alice and 1 for bob, says of its peer.
func (s *ours) ask(ctx context.Context, node int) (face.Peer, error) {
	all, err := s.status[node].Status(ctx, []string{pair.Resource})
	if err != nil {
		return face.Peer{}, err
	}
	if len(all) != 1 || len(all[0].Peers) != 1 {
		return face.Peer{}, fmt.Errorf("status of %s has %d resources", s.pair.Nodes[node].Name, len(all))
	}
	return all[0].Peers[0], nil
}

// reconnect starts a new session, which knows nothing of the line that there was before: the other subjects start anew, too.
func (s *ours) reconnect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restPatience)
	defer cancel()
	for _, verb := range []string{"disconnect", "connect"} {
		if _, err := s.alice.Verb(ctx, verb, pair.Resource); err != nil {
			return err
		}
	}
	_, err := s.alice.Wait(ctx, "a new session", pair.Status.InSync)
	return err
}

// load counts what is written, in bytes.
type load struct {
	begun, written atomic.Int64
	behind         atomic.Int64 // what the peer had not staged when it was last asked
}

// carry writes as fast as the backlog allows. What counts is what the peer has staged; where that is a batch or less in all the
// time there is, what has reached it.
func (s *ours) carry(ctx context.Context, warm, span time.Duration) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.reconnect(ctx); err != nil {
		return 0, err
	}
	var l load
	done := make(chan error, 1)
	go func() { done <- s.write(ctx, &l) }()
	var m meter
	begin := time.Now()
	tick := time.NewTicker(watchPause)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return 0, fmt.Errorf("write to the pair: %w", err)
		case <-tick.C:
		}
		since := time.Since(begin) - warm
		err := s.observe(ctx, &l, &m, since >= 0)
		if err != nil {
			return 0, errors.Join(err, stop(cancel, done))
		}
		if since >= span && (m.steps >= 2 || since >= span*stretch) {
			arrived, err := s.ask(ctx, 1)
			return m.rate(time.Now(), arrived.BytesReceived), errors.Join(err, stop(cancel, done))
		}
	}
}

// observe asks how far the peer is; it is part of the measurement where counts says so.
func (s *ours) observe(ctx context.Context, l *load, m *meter, counts bool) error {
	written := l.written.Load()
	peer, err := s.ask(ctx, 0)
	if err != nil {
		return err
	}
	l.behind.Store(peer.LagBytes)
	if !counts {
		return nil
	}
	if m.begin.IsZero() {
		arrived, err := s.ask(ctx, 1)
		if err != nil {
			return err
		}
		m.begin, m.arrived = time.Now(), arrived.BytesReceived
	}
	m.sample(time.Now(), written-peer.LagBytes, l.begun.Load()-written)
	return nil
}

func stop(cancel context.CancelFunc, done <-chan error) error {
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// write writes random data until ctx ends, and waits where more than the backlog is behind.
func (s *ours) write(ctx context.Context, l *load) error {
	var next atomic.Int64
	errs := make([]error, writers)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range writers {
		wg.Go(func() {
			defer cancel()
			random := rand.NewChaCha8(seed(rand.Uint64()))
			buf := make([]byte, writeSize)
			pause := time.NewTicker(watchPause)
			defer pause.Stop()
			for ctx.Err() == nil {
				if l.behind.Load() >= backlog {
					select {
					case <-ctx.Done():
					case <-pause.C:
					}
					continue
				}
				_, _ = random.Read(buf) // never fails
				l.begun.Add(writeSize)
				off := (next.Add(writeSize) - writeSize) % volumeSize
				if err := s.volume.WriteAt(context.WithoutCancel(ctx), buf, off, false); err != nil {
					errs[i] = err
					return
				}
				l.written.Add(writeSize)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func seed(n uint64) (key [32]byte) {
	for i := range 8 {
		key[i] = byte(n >> (8 * i))
	}
	return key
}
