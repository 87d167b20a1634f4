package sender

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"drship/internal/digest"
	"drship/wan/frame"
)

// maxServed bounds the requests in work for a peer: what it may have open, and what its clients gave up.
const maxServed = 2 * maxRemote

// ServeConfig says how the requests of a Primary without a disk are carried out here.
type ServeConfig struct {
	Link   Link
	Digest digest.Alg // over the data of answers
	// Begin is called before the first change, and again until it succeeds: the owner makes durable that this side writes now, and opens the
	// group.
	Begin func() error
}

// Server carries out, over a group's volumes, the requests of a peer's clients. What it changes takes the way of every write of a
// Primary: the write order, the journal, the activity log. It is answered once it is on stable storage.
type Server struct {
	group *Group
	cfg   ServeConfig
	work  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	inside  int
	stopped bool
	begun   bool
	syncing bool
	unsure  []chan error // changes that wait for the next sync

	beginning chan struct{} // holds one token, held over Begin
}

// Serve begins to carry out requests.
func (g *Group) Serve(cfg ServeConfig) *Server {
	return &Server{group: g, cfg: cfg, beginning: make(chan struct{}, 1)}
}

// Begun reports whether anything was to be changed.
func (s *Server) Begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// Stop refuses further requests and waits for those in work.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.work.Wait()
}

// Handle takes the next request; it is carried out beside the caller. An error says that the peer broke the protocol.
func (s *Server) Handle(ctx context.Context, m *frame.IO) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil // whoever serves next is asked again
	}
	if s.inside++; s.inside > maxServed {
		return fmt.Errorf("%w: more than %d requests at once", errProtocol, maxServed)
	}
	s.work.Go(func() {
		reply := s.carryOut(ctx, m)
		reply.ID = m.ID
		s.mu.Lock()
		s.inside--
		s.mu.Unlock()
		_ = s.cfg.Link.Send(ctx, &reply) // a link that fails ends the session
	})
	return nil
}

// carryOut does what a request asks for.
func (s *Server) carryOut(ctx context.Context, m *frame.IO) frame.IOReply {
	v := s.group.Volume(m.Volume)
	if v == nil || m.Off > v.Size()-int64(m.Len) {
		return frame.IOReply{Code: frame.IOFailed}
	}
	if m.Op == frame.OpRead {
		return s.read(v, m)
	}
	if m.Op == frame.OpWrite && !slices.Equal(digest.Alg(m.Digest).Sum(nil, m.Data), m.Sum) {
		return frame.IOReply{Code: frame.IODamaged}
	}
	if m.Op == frame.OpFlush {
		return frame.IOReply{Code: ioCode(s.durable())}
	}
	err := s.begin()
	if err == nil {
		err = s.change(ctx, v, m)
	}
	if err == nil {
		err = s.durable()
	}
	return frame.IOReply{Code: ioCode(err)}
}

// read reads the disk as it is: whatever was answered is on it.
func (s *Server) read(v *Volume, m *frame.IO) frame.IOReply {
	data := make([]byte, m.Len)
	if err := v.disk.ReadAt(data, m.Off); err != nil {
		return frame.IOReply{Code: ioCode(v.diskFailed("read", m.Off, int64(m.Len), err))}
	}
	c := &s.group.counters
	c.Reads.Add(1)
	c.Read.Add(uint64(len(data)))
	return frame.IOReply{Digest: uint8(s.cfg.Digest), Sum: s.cfg.Digest.Sum(nil, data), Data: data}
}

func (s *Server) change(ctx context.Context, v *Volume, m *frame.IO) error {
	switch m.Op {
	case frame.OpWrite:
		return v.WriteAt(ctx, m.Data, m.Off, false)
	case frame.OpTrim:
		return v.Trim(ctx, m.Off, int64(m.Len), false)
	}
	return v.Zero(ctx, m.Off, int64(m.Len), m.Op == frame.OpZeroKept, false)
}

func (s *Server) begin() error {
	s.beginning <- struct{}{}
	defer func() { <-s.beginning }()
	if s.Begun() {
		return nil
	}
	if err := s.cfg.Begin(); err != nil {
		return fmt.Errorf("begin to write for the peer: %w", err)
	}
	s.mu.Lock()
	s.begun = true
	s.mu.Unlock()
	return nil
}

// durable returns when everything changed before is on stable storage. Who comes while a sync runs shares the next.
func (s *Server) durable() error {
	done := make(chan error, 1)
	s.mu.Lock()
	s.unsure = append(s.unsure, done) // at most maxServed
	if !s.syncing {
		s.syncing = true
		s.work.Go(s.sync)
	}
	s.mu.Unlock()
	return <-done
}

// sync makes changes durable until none waits.
func (s *Server) sync() {
	for {
		s.mu.Lock()
		waiting := s.unsure
		s.unsure = nil
		s.syncing = len(waiting) > 0
		s.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		var err error
		for _, v := range s.group.volumes {
			err = errors.Join(err, v.flush())
		}
		for _, done := range waiting {
			done <- err
		}
	}
}

func ioCode(err error) frame.IOCode {
	switch {
	case err == nil:
		return frame.IODone
	case errors.Is(err, ErrNotPrimary), errors.Is(err, ErrStopped), errors.Is(err, context.Canceled):
		return frame.IOGone
	case errors.Is(err, syscall.ENOSPC):
		return frame.IONoSpace
	}
	return frame.IOFailed
}
