package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config sets up a Server. Zero values mean the defaults named here.
type Config struct {
	Directory Directory
	Logger    *slog.Logger // nil: nothing is logged
	// TLS, if set, is offered by STARTTLS.
	TLS *tls.Config
	// RequireTLS refuses every option but STARTTLS and ABORT on a plain connection. Unix sockets are exempt: the
	// file's mode guards them.
	RequireTLS bool

	MaxConnections   int           // of all listeners; more are closed at once. Half of them for negotiations over the network. Default 128
	MaxInFlight      int           // requests of one connection. Default 128
	MaxBytesInFlight int64         // payload of all connections, bytes; at least MaxPayload. Default 64 MiB
	HandshakeTimeout time.Duration // for the whole negotiation. Default 15 s
	// StallTimeout ends a connection whose client stopped in the middle of a message, or takes none of a reply,
	// for this long: it holds memory that others wait for. An idle client is never dropped. Default 60 s.
	StallTimeout time.Duration
	// DrainTimeout is what requests in flight get when a connection goes down; then their context ends. Default 10 s.
	DrainTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MaxConnections <= 0 {
		c.MaxConnections = 128
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = 128
	}
	if c.MaxBytesInFlight <= 0 {
		c.MaxBytesInFlight = 64 << 20
	}
	c.MaxBytesInFlight = max(c.MaxBytesInFlight, MaxPayload)
	if c.HandshakeTimeout <= 0 {
		c.HandshakeTimeout = 15 * time.Second
	}
	if c.StallTimeout <= 0 {
		c.StallTimeout = time.Minute
	}
	if c.DrainTimeout <= 0 {
		c.DrainTimeout = 10 * time.Second
	}
	return c
}

// Server serves the exports of a Directory. Its methods may be called concurrently.
type Server struct {
	cfg     Config
	buffers *bufferPool
	slots   chan struct{} // one token for each connection
	// strangers holds one token for each connection over the network that has not picked an export: they leave room for those who
	// have, and for local clients.
	strangers chan struct{}
	crowd     *crowd

	warned atomic.Int64 // when warnOfStranger logged last, in Unix nanoseconds
}

// NewServer makes a server; it holds no resources until it serves.
func NewServer(cfg Config) *Server {
	cfg = cfg.withDefaults()
	return &Server{
		cfg:       cfg,
		buffers:   newBufferPool(cfg.MaxBytesInFlight),
		slots:     make(chan struct{}, cfg.MaxConnections),
		strangers: make(chan struct{}, max(cfg.MaxConnections/2, 1)),
		crowd:     newCrowd(),
	}
}

// Serve accepts connections from l until ctx ends, then closes l, lets requests in flight finish and returns nil after all its
// connections ended. Several listeners may be served at the same time. A listener that fails for good ends Serve
// in the same way, with an error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer func() {
		if stop() {
			l.Close()
		}
	}()

	for backoff := time.Duration(0); ; {
		c, err := l.Accept()
		switch {
		case err == nil:
			backoff = 0
			s.start(ctx, c, &conns)
		case ctx.Err() != nil:
			return nil
		case !temporary(err):
			return fmt.Errorf("accept NBD connections on %s: %w", l.Addr(), err)
		default:
			if backoff == 0 {
				s.cfg.Logger.Warn("cannot accept NBD connections for now", "listener", l.Addr().String(), "err", err)
			}
			backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
			if !pause(ctx, backoff) {
				return nil
			}
		}
	}
}

// temporary reports whether Accept may succeed later: a lack of descriptors or memory, or a client that went away.
func temporary(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.EINTR, syscall.EPROTO, syscall.EPERM, // the last two: the client, or a packet filter
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// pause waits for d; it reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// start serves c in a goroutine of conns, or closes it when there are too many.
func (s *Server) start(ctx context.Context, c net.Conn, conns *sync.WaitGroup) {
	known, ok := s.admit(c)
	if !ok {
		s.warnOfStranger(s.cfg.Logger, "NBD connection refused: too many", "client", clientOf(c), "max-connections", s.cfg.MaxConnections)
		c.Close()
		return
	}
	conns.Go(func() {
		defer func() { <-s.slots }()
		defer known()
		client := clientOf(c)
		log := s.cfg.Logger.With("client", client.Addr, "pid", client.PID, "command", client.Command)
		picked := false
		err := s.serveConn(ctx, c, client, log, func() { picked = true; known() })
		switch {
		case err == nil:
		case picked:
			log.Warn("NBD connection ended", "err", err)
		default:
			s.warnOfStranger(log, "NBD connection ended", "err", err)
		}
	})
}

// warnOfStranger logs what somebody did who has not picked an export. He can make it happen as often as he likes, so it is said once a
// second at most.
func (s *Server) warnOfStranger(log *slog.Logger, text string, args ...any) {
	now := time.Now().UnixNano()
	last := s.warned.Load()
	if now-last >= int64(time.Second) && s.warned.CompareAndSwap(last, now) {
		log.Warn(text, args...)
	}
}

// admit takes a token for a connection, if there is one. known is to be called when the client has picked an export, or is gone.
func (s *Server) admit(c net.Conn) (known func(), ok bool) {
	known = func() {}
	if _, local := c.(*net.UnixConn); !local {
		select {
		case s.strangers <- struct{}{}:
			known = sync.OnceFunc(func() { <-s.strangers })
		default:
			return nil, false
		}
	}
	select {
	case s.slots <- struct{}{}:
		return known, true
	default:
		known()
		return nil, false
	}
}

// ServeConn serves one connection and closes it. It returns nil when the client left in order or when ctx ended,
// after the last request in flight. It does not count against MaxConnections.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) error {
	return s.serveConn(ctx, c, clientOf(c), s.cfg.Logger, func() {})
}

// serveConn calls known once the client has picked an export.
func (s *Server) serveConn(ctx context.Context, c net.Conn, client Client, log *slog.Logger, known func()) error {
	defer c.Close()
	n := &negotiation{srv: s, conn: c, client: client, log: log}
	chosen, err := n.run(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("negotiate: %w", err)
	}
	if chosen == nil {
		return nil
	}
	known()
	defer n.conn.Close()   // the TLS layer, where there is one
	defer chosen.release() // before closing: a client that sees the end may count on the export being free
	log.Debug("NBD export opened", "export", chosen.name, "structured", n.structured)
	if err := newSession(s, n, chosen).run(ctx); err != nil {
		return fmt.Errorf("export %q: %w", chosen.name, err)
	}
	return nil
}
