package nbd

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Memory for payload is bounded for all connections together, so a client that is slow to send what it announced, or to take
// what it asked for, keeps others from theirs. That is fair while there is enough. When a request has waited for memory for
// shortage, connections go that have kept some for their clients longer than allowance.
const (
	shortage = 5 * time.Second // and each second from then on
	grace    = 10 * time.Second
	slowRate = 2 << 20 // bytes a second that a client should manage, beyond grace
)

// allowance is how long a client may take over n bytes while others wait for memory.
func allowance(n int) time.Duration {
	return grace + time.Duration(n)*time.Second/slowRate
}

// keeping is until when memory may be kept for a client that has to do something about it; in Unix nanoseconds, 0 while none is kept.
type keeping struct{ until atomic.Int64 }

func (k *keeping) begin(n int) { k.until.Store(time.Now().Add(allowance(n)).UnixNano()) }
func (k *keeping) end()        { k.until.Store(0) }
func (k *keeping) over(now time.Time) bool {
	until := k.until.Load()
	return until != 0 && until < now.UnixNano()
}

// crowd is the sessions of a server.
type crowd struct {
	mu       sync.Mutex
	sessions map[*session]struct{}
}

func newCrowd() *crowd { return &crowd{sessions: map[*session]struct{}{}} }

func (c *crowd) join(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[s] = struct{}{}
}

func (c *crowd) leave(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, s)
}

// evict ends the sessions that keep memory for too long.
func (c *crowd) evict() {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.sessions {
		if (s.sending.over(now) || s.replies.taking.over(now)) && !s.evicted.Swap(true) {
			s.conn.Close()
		}
	}
}

// hurry evicts for as long as somebody waits for memory.
type hurry struct {
	crowd *crowd
	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

// get is buffers.get, with pressure on those who keep memory.
func (c *crowd) get(ctx context.Context, buffers *bufferPool, n int) (*buffer, error) {
	h := &hurry{crowd: c}
	h.mu.Lock()
	h.timer = time.AfterFunc(shortage, h.again)
	h.mu.Unlock()
	b, err := buffers.get(ctx, n)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	h.timer.Stop()
	return b, err
}

func (h *hurry) again() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return
	}
	h.crowd.evict()
	h.timer.Reset(time.Second)
}
