package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestRefusedRequests sends requests that cannot be served: each gets its error, its payload is drained, and the
// connection goes on.
func TestRefusedRequests(t *testing.T) {
	const size = 64 << 10
	tests := []struct {
		name       string
		send       []byte
		simple     uint32
		structured uint32
	}{
		{"read behind the end", requestBytes(CmdRead, 0, 5, size-1, 2), codeInvalid, codeInvalid},
		{"read far behind the end", requestBytes(CmdRead, 0, 5, math.MaxUint64, 1), codeInvalid, codeInvalid},
		{"read whose end overflows", requestBytes(CmdRead, 0, 5, math.MaxUint64-1, 4), codeInvalid, codeInvalid},
		{"write behind the end", requestBytes(CmdWrite, 0, 5, size-1, 2, 1, 2), codeNoSpace, codeNoSpace},
		{"long write behind the end", requestBytes(CmdWrite, 0, 5, 1, size, make([]byte, size)...), codeNoSpace, codeNoSpace},
		{"zero behind the end", requestBytes(CmdWriteZeroes, 0, 5, 0, size+1), codeNoSpace, codeNoSpace},
		{"trim behind the end", requestBytes(CmdTrim, 0, 5, size, 1), codeInvalid, codeInvalid},
		{"status behind the end", requestBytes(CmdBlockStatus, 0, 5, 0, size+1), codeInvalid, codeInvalid},
		{"status of nothing", requestBytes(CmdBlockStatus, 0, 5, 0, 0), codeInvalid, codeInvalid},
		{"flush with a range", requestBytes(CmdFlush, 0, 5, 0, 512), codeInvalid, codeInvalid},
		{"unknown command", requestBytes(99, 0, 5, 0, 512), codeInvalid, codeInvalid},
		{"cache, which is not offered", requestBytes(5, 0, 5, 0, 512), codeInvalid, codeInvalid},
		{"unknown flag", requestBytes(CmdWrite, 1<<9, 5, 0, 2, 1, 2), codeInvalid, codeInvalid},
		{"NO_HOLE with a write", requestBytes(CmdWrite, CmdFlagNoHole, 5, 0, 2, 1, 2), codeInvalid, codeInvalid},
		{"REQ_ONE with a trim", requestBytes(CmdTrim, CmdFlagReqOne, 5, 0, 2), codeInvalid, codeInvalid},
		{"DF", requestBytes(CmdRead, CmdFlagDF, 5, 0, 1), codeInvalid, 0},
	}
	for _, structured := range []bool{false, true} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/structured=%v", tt.name, structured), func(t *testing.T) {
				p := start(t, serving(newMemory(size)), structured)
				p.write(tt.send)
				want := tt.simple
				if structured {
					want = tt.structured
				}
				a := p.answer(1)
				if a.cookie != 5 || a.code != want || a.structured != structured {
					t.Errorf("answer %+v, want error %d", a, want)
				}
				if structured && want != 0 && a.data == "" {
					t.Error("error without a text")
				}
				p.alive(structured)
			})
		}
	}
}

// TestTooLongRequests asks for more than the largest payload of an export that is larger.
func TestTooLongRequests(t *testing.T) {
	for structured, read := range map[bool]uint32{false: codeInvalid, true: codeOverflow} {
		p := start(t, serving(newMemory(MaxPayload+4096)), structured)
		p.write(requestBytes(CmdRead, 0, 5, 0, MaxPayload+1))
		if a := p.answer(0); a.code != read {
			t.Errorf("read: %+v", a)
		}
		p.write(requestBytes(CmdWrite, 0, 6, 0, MaxPayload+1), make([]byte, MaxPayload+1))
		if a := p.answer(0); a.code != codeInvalid {
			t.Errorf("write: %+v", a)
		}
		p.write(requestBytes(CmdWriteZeroes, 0, 7, 0, MaxPayload+1)) // carries no payload, so it may be longer
		if a := p.answer(0); a.code != 0 {
			t.Errorf("zero: %+v", a)
		}
		p.alive(structured)
	}
}

func TestAlignment(t *testing.T) {
	m := newMemory(64 << 10)
	m.minBlock = 4096
	p := start(t, serving(m), false)
	for _, q := range [][]byte{
		requestBytes(CmdRead, 0, 1, 512, 4096), requestBytes(CmdWrite, 0, 1, 0, 1, 9), requestBytes(CmdTrim, 0, 1, 4096, 100),
	} {
		p.write(q)
		if a := p.answer(0); a.code != codeInvalid {
			t.Errorf("unaligned request: %+v", a)
		}
	}
	p.write(requestBytes(CmdRead, 0, 1, 4096, 8192))
	if a := p.answer(8192); a.code != 0 {
		t.Errorf("aligned read: %+v", a)
	}
}

func TestCommands(t *testing.T) {
	m := newMemory(1 << 20)
	m.extents = []Extent{{Len: 4096}, {Len: 4096}, {Len: 8192, Hole: true, Zero: true}, {Len: 1 << 30, Zero: true}}
	p := start(t, serving(m), true)
	ok := func(send []byte, kind uint16, data string) {
		t.Helper()
		p.write(send)
		if a := p.answer(0); a.code != 0 || a.kind != kind || a.data != data {
			t.Errorf("answer %+v, want type %d, data %q", a, kind, data)
		}
	}
	ok(requestBytes(CmdWrite, CmdFlagFUA, 1, 100, 3, 1, 2, 3), 0, "")
	ok(requestBytes(CmdRead, 0, 2, 99, 5), ReplyOffsetData, string(be(uint64(99), "\x00\x01\x02\x03\x00")))
	ok(requestBytes(CmdRead, 0, 3, 4096, 8000), ReplyOffsetHole, string(be(uint64(4096), uint32(8000))))
	ok(requestBytes(CmdRead, CmdFlagDF, 4, 4096, 2), ReplyOffsetData, string(be(uint64(4096), "\x00\x00")))
	ok(requestBytes(CmdRead, 0, 4, 1<<20, 0), ReplyNone, "")
	ok(requestBytes(CmdWrite, 0, 5, 1<<20, 0), 0, "")
	ok(requestBytes(CmdWriteZeroes, CmdFlagFUA|CmdFlagNoHole|CmdFlagFastZero, 6, 100, 2), 0, "")
	if m.lastZero != (ZeroOptions{FUA: true, NoHole: true, Fast: true}) || m.data[101] != 0 || m.data[102] != 3 {
		t.Errorf("zero: options %+v", m.lastZero)
	}
	ok(requestBytes(CmdTrim, CmdFlagFUA, 7, 102, 1), 0, "")
	ok(requestBytes(CmdFlush, 0, 8, 0, 0), 0, "")
	if m.trims != 1 || m.flushes != 1 || m.fuas != 3 {
		t.Errorf("%d trims, %d flushes, %d FUAs", m.trims, m.flushes, m.fuas)
	}
	ok(requestBytes(CmdBlockStatus, 0, 9, 0, 65536), ReplyBlockStatus,
		string(be(metaContextID, uint32(8192), uint32(0), uint32(8192), StateHole|StateZero, uint32(49152), StateZero)))
	ok(requestBytes(CmdBlockStatus, CmdFlagReqOne, 10, 0, 65536), ReplyBlockStatus,
		string(be(metaContextID, uint32(8192), uint32(0))))
	ok(requestBytes(CmdBlockStatus, CmdFlagReqOne, 11, 0, 512), ReplyBlockStatus,
		string(be(metaContextID, uint32(512), uint32(0))))
	m.extents = []Extent{}
	ok(requestBytes(CmdBlockStatus, 0, 12, 0, 512), ReplyBlockStatus, string(be(metaContextID, uint32(512), uint32(0))))
}

func TestStatusIsBounded(t *testing.T) {
	many := make([]Extent, 2*maxExtents)
	for i := range many {
		many[i] = Extent{Len: 512, Hole: i%2 == 0}
	}
	if b := appendStatus(nil, many, math.MaxUint32, maxExtents); len(b) != 4+8*maxExtents {
		t.Errorf("%d bytes", len(b))
	}
}

// TestErrnoReachesTheClient makes the export fail in every way. The connection survives all of them.
func TestErrnoReachesTheClient(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code uint32
	}{
		{ErrIO, 5}, {ErrNoSpace, 28}, {ErrPerm, 1}, {ErrInvalid, 22}, {ErrOverflow, 75}, {ErrShutdown, 108}, {ErrNotSupported, 95},
		{syscall.ENOSPC, 28}, {syscall.EDQUOT, 28}, {syscall.EIO, 5}, {syscall.EPERM, 1}, {errors.New("anything"), 5},
	} {
		m := newMemory(4096)
		for _, structured := range []bool{false, true} {
			p := start(t, serving(m), structured)
			for _, q := range [][]byte{
				requestBytes(CmdRead, 0, 3, 0, 512), requestBytes(CmdWrite, 0, 3, 0, 1, 1), requestBytes(CmdFlush, 0, 3, 0, 0),
				requestBytes(CmdTrim, 0, 3, 0, 512), requestBytes(CmdWriteZeroes, 0, 3, 0, 512),
			} {
				m.fail = fmt.Errorf("write block 7: %w", tt.err)
				p.write(q)
				a := p.answer(0)
				if a.code != tt.code || structured && a.data != m.fail.Error() {
					t.Errorf("%v: %+v", tt.err, a)
				}
			}
			m.fail = nil
			p.alive(structured)
			p.c.Close()
			<-p.done
		}
		if got := Errno(ErrorOf(tt.code)); got != tt.code {
			t.Errorf("code %d comes back as %d", tt.code, got)
		}
	}
}

func TestBrokenStream(t *testing.T) {
	for name, send := range map[string][]byte{
		"wrong magic":        append(be(uint32(0x12345678)), make([]byte, 24)...),
		"header cut off":     requestBytes(CmdRead, 0, 1, 0, 1)[:10],
		"payload cut off":    requestBytes(CmdWrite, 0, 1, 0, 100, 1, 2, 3),
		"refused, cut off":   requestBytes(CmdWrite, 0, 1, 1<<40, 100, 1, 2, 3),
		"payload never came": requestBytes(CmdWrite, 0, 1, 0, 100),
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, serving(newMemory(4096)), false)
			go func() {
				p.c.Write(send)
				p.c.Close()
			}()
			if err := <-p.done; err == nil {
				t.Error("no error")
			}
		})
	}
}

// TestSlowRequestHoldsUpNoOther blocks a request that was served under the reading role: the guard must let others pass.
func TestSlowRequestHoldsUpNoOther(t *testing.T) {
	m := newMemory(4096)
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p := start(t, serving(m), false)
	for range 2 * loneStreak { // requests count as lone from then on
		p.alive(false)
	}
	m.block = func(_ context.Context, op string) error {
		if op == "write" {
			once.Do(func() { close(held); <-release })
		}
		return nil
	}
	p.write(requestBytes(CmdWrite, 0, 1, 0, 1, 1))
	<-held
	for i := range uint64(20) {
		p.write(requestBytes(CmdRead, 0, 10+i, 0, 1))
		if a := p.answer(1); a.cookie != 10+i {
			t.Fatalf("answer %+v", a)
		}
	}
	close(release)
	if a := p.answer(0); a.cookie != 1 {
		t.Fatalf("answer %+v", a)
	}
}

// TestHeldBackReplyIsSent sends two requests in one piece; the first reply would wait for the second request, which hangs.
func TestHeldBackReplyIsSent(t *testing.T) {
	m := newMemory(4096)
	release := make(chan struct{})
	m.block = func(_ context.Context, op string) error {
		if op == "trim" {
			<-release
		}
		return nil
	}
	p := start(t, serving(m), false)
	p.write(requestBytes(CmdWrite, 0, 1, 0, 1, 1), requestBytes(CmdTrim, 0, 2, 0, 1), requestBytes(CmdWrite, 0, 3, 0, 1, 1))
	got := map[uint64]bool{p.answer(0).cookie: true}
	got[p.answer(0).cookie] = true
	if !got[1] || !got[3] {
		t.Errorf("answers %v", got)
	}
	close(release)
	if a := p.answer(0); a.cookie != 2 {
		t.Errorf("answer %+v", a)
	}
}

// TestBudgetIsSharedByOneBatch asks in one piece for more than the budget holds: replies held back must not keep
// the memory that the next request waits for.
func TestBudgetIsSharedByOneBatch(t *testing.T) {
	server, client := net.Pipe()
	defer client.Close()
	m := newMemory(1 << 20)
	srv := NewServer(serving(m))
	srv.buffers = newBufferPool(64 << 10)
	done := make(chan error, 1)
	go func() { done <- srv.ServeConn(context.Background(), server) }()
	client.SetDeadline(time.Now().Add(20 * time.Second))
	p := &peer{t: t, c: client, done: done}
	p.read(18)
	p.write(be(ClientFixedNewstyle))
	p.mustAck(OptGo, goData("r0"))
	var all []byte
	for i := range uint64(100) {
		all = append(all, requestBytes(CmdRead, 0, i, i*4096, 32<<10)...)
	}
	go client.Write(all)
	for range 100 {
		if a := p.answer(32 << 10); a.code != 0 {
			t.Fatalf("answer %+v", a)
		}
	}
	client.Close()
	<-done
}

// TestInFlightIsBounded holds as many requests as are allowed: the server takes no further one until one is answered.
func TestInFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(4096)
		var inside, most int
		var mu sync.Mutex
		release := make(chan struct{})
		m.block = func(context.Context, string) error {
			mu.Lock()
			inside++
			most = max(most, inside)
			mu.Unlock()
			<-release
			mu.Lock()
			inside--
			mu.Unlock()
			return nil
		}
		cfg := serving(m)
		cfg.MaxInFlight = 4
		p := start(t, cfg, false)
		go func() {
			for i := range uint64(20) {
				p.c.Write(requestBytes(CmdFlush, 0, i, 0, 0))
			}
		}()
		synctest.Wait()
		mu.Lock()
		if inside != 4 {
			t.Errorf("%d requests inside", inside)
		}
		mu.Unlock()
		close(release)
		for range 20 {
			p.answer(0)
		}
		if most != 4 {
			t.Errorf("at most %d requests inside at a time", most)
		}
	})
}

// TestBytesAreBounded lets two connections want more payload than the budget has: both get through, one after the other.
func TestBytesAreBounded(t *testing.T) {
	pool := newBufferPool(MaxPayload)
	a, err := pool.get(t.Context(), MaxPayload)
	if err != nil || len(a.data) != MaxPayload {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pool.get(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("beyond the budget: %v", err)
	}
	got := make(chan *buffer)
	go func() {
		b, _ := pool.get(context.Background(), 5000)
		got <- b
	}()
	pool.put(a)
	if b := <-got; len(b.data) != 5000 || cap(b.data) != 8192 {
		t.Errorf("buffer of %d bytes in %d", len(b.data), cap(b.data))
	}
}

// TestShutdown ends the server's context while a write is held: the write is answered, what comes meanwhile is
// refused, and then the server hangs up.
func TestShutdown(t *testing.T) {
	m := newMemory(4096)
	held, release := make(chan struct{}), make(chan struct{})
	m.block = func(ctx context.Context, op string) error {
		if op == "write" {
			close(held)
			<-release
		}
		return ctx.Err()
	}
	cfg := serving(m)
	p := start(t, cfg, false)
	p.write(requestBytes(CmdWrite, 0, 1, 0, 1, 1))
	<-held
	p.stop()
	for code := uint32(0); code != codeShutdown; { // the server learns of the end of its context at some moment
		p.write(requestBytes(CmdFlush, 0, 2, 0, 0))
		code = p.answer(0).code
	}
	close(release)
	if a := p.answer(0); a.cookie != 1 || a.code != 0 {
		t.Errorf("held write: %+v", a)
	}
	if err := p.ended(); err != nil {
		t.Error(err)
	}
	if d := cfg.Directory.(*shelf); d.opened != 1 || d.closed != 1 {
		t.Errorf("opened %d times, released %d times", d.opened, d.closed)
	}
}

// TestDrainTimeout ends the context of requests that do not finish, after a shutdown and after a lost client.
func TestDrainTimeout(t *testing.T) {
	for name, leave := range map[string]func(*peer){
		"shutdown":    func(p *peer) { p.stop() },
		"lost client": func(p *peer) { p.c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(4096)
				m.block = func(ctx context.Context, _ string) error {
					<-ctx.Done()
					return ctx.Err()
				}
				cfg := serving(m)
				cfg.DrainTimeout = 3 * time.Second
				p := start(t, cfg, false)
				p.write(requestBytes(CmdFlush, 0, 1, 0, 0))
				synctest.Wait()
				begin := time.Now()
				leave(p)
				if err := <-p.done; (err != nil) != (name == "lost client") {
					t.Error(err)
				}
				if d := time.Since(begin); d != 3*time.Second {
					t.Errorf("ended after %v", d)
				}
			})
		})
	}
}

// TestDisconnectAnswersWhatIsInFlight sends DISC behind a held request: it is still answered.
func TestDisconnectAnswersWhatIsInFlight(t *testing.T) {
	m := newMemory(4096)
	release := make(chan struct{})
	m.block = func(context.Context, string) error { <-release; return nil }
	p := start(t, serving(m), false)
	p.write(requestBytes(CmdFlush, 0, 1, 0, 0))
	p.write(requestBytes(CmdDisc, 0, 2, 0, 0))
	close(release)
	if a := p.answer(0); a.cookie != 1 || a.code != 0 {
		t.Errorf("answer %+v", a)
	}
	if err := p.ended(); err != nil {
		t.Error(err)
	}
}

// TestServe accepts over a unix socket, knows its client, bounds the connections, and ends when its context does.
func TestServe(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "nbd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := serving(newMemory(1 << 20))
	cfg.MaxConnections = 2
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- NewServer(cfg).Serve(ctx, l) }()
	dial := func() *peer {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		return &peer{t: t, c: c}
	}
	for range 2 {
		p := dial()
		p.read(18)
		p.write(be(ClientFixedNewstyle))
		p.mustAck(OptGo, goData("r0"))
		// Many requests at once, answered in one piece or several, none lost.
		data := bytes.Repeat([]byte{1}, 4096)
		var all []byte
		for i := range uint64(200) {
			all = append(all, requestBytes(CmdWrite, 0, i, i*4096, 4096, data...)...)
			all = append(all, requestBytes(CmdRead, 0, 1000+i, (i%4)*4096, 1000)...)
		}
		go p.c.Write(all)
		seen := map[uint64]bool{}
		for len(seen) < 400 {
			h := p.read(SimpleReplySize)
			cookie := uint64(h[14])<<8 | uint64(h[15])
			if seen[cookie] || h[7] != 0 {
				t.Fatalf("reply %x", h)
			}
			seen[cookie] = true
			if cookie >= 1000 {
				p.read(1000)
			}
		}
	}
	if n, err := dial().c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("third connection got %d bytes", n)
	}
	d := cfg.Directory.(*shelf)
	if c := d.client; c.Addr != "unix" || c.PID != syscall.Getpid() || !strings.HasPrefix(c.Command, "nbd") {
		t.Errorf("client %+v", c)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if d.opened != 2 || d.closed != 2 {
		t.Errorf("opened %d times, released %d times", d.opened, d.closed)
	}
}

func TestServeReportsABrokenListener(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "nbd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := NewServer(Config{Directory: &shelf{}}).Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
