package nbd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// connectTo is start for a server that others are connected to as well, without structured replies.
func connectTo(t *testing.T, s *Server) *peer {
	t.Helper()
	server, client := net.Pipe()
	ctx, stop := context.WithCancel(context.Background())
	p := &peer{t: t, c: client, done: make(chan error, 1), stop: stop}
	go func() { p.done <- s.ServeConn(ctx, server) }()
	t.Cleanup(func() {
		client.Close()
		stop()
	})
	p.read(18)
	p.write(be(ClientFixedNewstyle | ClientNoZeroes))
	p.mustAck(OptGo, goData("r0"))
	return p
}

// TestSlowClientsGiveWay: two clients have all memory for payload, and dribble. Nobody minds until a third one needs some; then the one that has used up its
// allowance goes, and the other one stays.
func TestSlowClientsGiveWay(t *testing.T) {
	const half = 1 << 20
	for name, slow := range map[string]func(p *peer){
		"to send": func(p *peer) { // a byte every ten seconds: never silent for the stall timeout
			p.write(requestBytes(CmdWrite, 0, 1, 0, half))
			go func() {
				for {
					if _, err := p.c.Write([]byte{1}); err != nil {
						return
					}
					time.Sleep(10 * time.Second)
				}
			}()
		},
		"to take": func(p *peer) {
			p.write(requestBytes(CmdRead, 0, 1, 0, half))
			go func() {
				for b := make([]byte, 1); ; time.Sleep(10 * time.Second) {
					if _, err := io.ReadFull(p.c, b); err != nil {
						return
					}
				}
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewServer(serving(newMemory(MaxPayload)))
				s.buffers = newBufferPool(2 * half)
				first := connectTo(t, s)
				slow(first)
				time.Sleep(20 * time.Second)
				second := connectTo(t, s)
				slow(second)
				time.Sleep(time.Second)
				select {
				case err := <-first.done:
					t.Fatalf("dropped while nobody needed its memory: %v", err)
				default:
				}
				third := connectTo(t, s)
				began := time.Now()
				third.alive(false)
				if d := time.Since(began); d < shortage || d > 2*shortage {
					t.Errorf("served after %v", d)
				}
				if err := <-first.done; !errors.Is(err, errEvicted) {
					t.Errorf("the slower one ended with %v", err)
				}
				select {
				case err := <-second.done:
					t.Errorf("the other one was dropped as well: %v", err)
				default:
				}
				for _, p := range []*peer{first, second, third} {
					p.c.Close()
					p.stop()
				}
				<-second.done
				<-third.done
				time.Sleep(time.Minute) // those who dribble notice
			})
		})
	}
}

// TestSmallNeedNotWaitForLarge: large requests leave half of the memory to others.
func TestSmallNeedNotWaitForLarge(t *testing.T) {
	pool := newBufferPool(2 * MaxPayload)
	large := pool.tryGet(MaxPayload)
	if large == nil {
		t.Fatal("no room for a large one")
	}
	if pool.tryGet(1<<20+1) != nil {
		t.Error("large ones may have all there is")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pool.get(ctx, MaxPayload); !errors.Is(err, context.Canceled) {
		t.Errorf("another large one: %v", err)
	}
	var small []*buffer
	for range MaxPayload >> 20 {
		b := pool.tryGet(1 << 20)
		if b == nil {
			t.Fatal("small ones have to wait")
		}
		small = append(small, b)
	}
	pool.put(large)
	if pool.tryGet(1<<20) == nil {
		t.Error("no room where a large one was")
	}
	for _, b := range small {
		pool.put(b)
	}
	if pool.tryGet(MaxPayload) == nil {
		t.Error("room for large ones is lost")
	}
}

// TestStrangersLeaveRoom: connections over the network that never pick an export keep out neither local clients nor, for long, others.
func TestStrangersLeaveRoom(t *testing.T) {
	cfg := serving(newMemory(4096))
	cfg.MaxConnections = 4
	s := NewServer(cfg)
	remote := func() net.Conn { a, _ := net.Pipe(); return a }
	var known []func()
	for range 2 {
		k, ok := s.admit(remote())
		if !ok {
			t.Fatal("no room for a stranger")
		}
		known = append(known, k)
	}
	if _, ok := s.admit(remote()); ok {
		t.Error("strangers may have all there is")
	}
	if _, ok := s.admit(&net.UnixConn{}); !ok {
		t.Error("no room for a local client")
	}
	known[0]()
	known[0]() // when it is gone, again
	if _, ok := s.admit(remote()); !ok {
		t.Error("no room for a stranger, after one has picked its export")
	}
	if _, ok := s.admit(&net.UnixConn{}); ok {
		t.Error("more connections than there may be")
	}
	if len(s.strangers) != 2 {
		t.Errorf("%d strangers", len(s.strangers))
	}
}

// TestStrangersDoNotFillTheLog: a crowd that is refused is one line.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		cfg := serving(newMemory(4096))
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		cfg.MaxConnections = 2
		s := NewServer(cfg)
		var conns sync.WaitGroup
		crowd := func() {
			for range 100 {
				server, client := net.Pipe()
				go func() { // garbage, or nobody who listens
					_, _ = io.CopyN(io.Discard, client, 18)
					_, _ = client.Write([]byte("garbage"))
					_ = client.Close()
				}()
				s.start(t.Context(), server, &conns)
			}
			conns.Wait()
		}
		crowd()
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines:\n%s", n, log.String())
		}
		time.Sleep(time.Second)
		crowd()
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%d lines:\n%s", n, log.String())
		}
	})
}
