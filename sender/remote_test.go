package sender

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/digest"
	"drship/internal/disk"
	"drship/journal"
	"drship/wan/frame"
)

// postLine takes messages to the other side as a session does: as bytes, in order, unless it is cut or damages them.
type postLine struct {
	mu     sync.Mutex
	cut    bool
	damage int // so many messages with data arrive changed
	count  int
	to     func(frame.Message)
}

// Send implements Link.
func (w *postLine) Send(_ context.Context, m frame.Message) error {
	raw := frame.Append(nil, m)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return errors.New("the line is cut")
	}
	w.count++
	if n := len(raw) - 1; w.damage > 0 && n > 100 {
		w.damage--
		raw[n] ^= 1
	}
	got, err := frame.Parse(raw)
	if err != nil {
		return err
	}
	w.to(got)
	return nil
}

// served is a Primary without a disk and the peer that serves it.
type served struct {
	*testing.T
	remote         *Remote
	volume         *RemoteVolume
	group          *Group
	mem            *disk.Mem
	plan           disk.Plan
	server         *Server
	there, back    *postLine
	begins, broken int
}

func newServed(t *testing.T) *served {
	s := &served{T: t, mem: disk.NewMem(volumeSize, 1)}
	store, err := journal.Open("r0", journal.Options{FS: vfs.NewMem(), MaxJournal: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s.group, err = New(Config{Store: store, Disks: []VolumeDisk{{Number: 0, Disk: disk.Faulty(s.mem, &s.plan)}}, Peers: []string{"alice"}, ALExtents: 67,
		MaxJournal: 64 << 20, Hooks: fullHooks{make(chan string, 8)}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.remote = NewRemote(RemoteConfig{Sizes: map[uint16]int64{0: volumeSize}, Digest: digest.CRC32C, Logger: slog.New(slog.DiscardHandler)})
	s.volume = s.remote.Volume(0)
	t.Cleanup(func() {
		s.remote.Close()
		if s.server != nil {
			s.server.Stop()
		}
		if err := errors.Join(s.group.Close(context.Background()), store.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// connect begins a session: a server of its own, and everything that was not answered once more.
func (s *served) connect() {
	s.Helper()
	s.there, s.back = &postLine{}, &postLine{to: func(m frame.Message) { s.remote.Handle(m.(*frame.IOReply)) }}
	server := s.group.Serve(ServeConfig{Link: s.back, Digest: digest.CRC32C, Begin: func() error {
		s.begins++
		_, err := s.group.Begin(0)
		s.group.Open()
		return err
	}})
	s.server = server
	s.there.to = func(m frame.Message) {
		if err := server.Handle(context.Background(), m.(*frame.IO)); err != nil {
			s.broken++
		}
	}
	if err := s.remote.Serve(context.Background(), s.there); err != nil {
		s.Fatal(err)
	}
}

func (s *served) lose() {
	s.there.mu.Lock()
	s.there.cut = true
	s.there.mu.Unlock()
	s.back.mu.Lock()
	s.back.cut = true
	s.back.mu.Unlock()
	s.remote.Lost()
	s.server.Stop()
}

func (s *served) write(off int64, p []byte) {
	s.Helper()
	if err := s.volume.WriteAt(context.Background(), p, off, false); err != nil {
		s.Fatal(err)
	}
}

func (s *served) reads(off int64, want []byte) {
	s.Helper()
	got := make([]byte, len(want))
	if err := s.volume.ReadAt(context.Background(), got, off); err != nil || !bytes.Equal(got, want) {
		s.Fatalf("%d bytes at %d read wrong: %v", len(want), off, err)
	}
}

// Each request does what it says, long ones in pieces, and what was answered survives a loss of power of the peer.
func TestRemoteIsDurable(t *testing.T) {
	s := newServed(t)
	s.connect()
	ctx := context.Background()
	long := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16+1)
	s.write(4000, long)
	s.reads(4000, long)
	s.write(0, []byte("short"))
	if err := errors.Join(s.volume.Zero(ctx, 8192, 4096, true, false), s.volume.Zero(ctx, 16384, 4096, false, false),
		s.volume.Trim(ctx, 1<<20, 1<<20, false), s.volume.Flush(ctx)); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{8192, 16384, 1 << 20, 2<<20 - 4096} {
		s.reads(off, make([]byte, 4096))
	}
	if s.begins != 1 {
		t.Errorf("the order of writes began %d times", s.begins)
	}
	got := make([]byte, 5)
	if err := s.mem.CrashClone().ReadAt(got, 0); err != nil || string(got) != "short" {
		t.Errorf("after a loss of power the peer has %q, %v", got, err)
	}
	records, _, _ := s.group.log.Backlog(s.group.log.Start())
	if records < 6 {
		t.Errorf("the journal has %d records: what was written here does not follow later", records)
	}
}

// What was not answered when the line broke is carried out by the next session, in the order of the client's overlapping writes.
func TestRemoteOutlivesItsLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServed(t)
		s.connect()
		s.write(0, []byte("before"))
		s.back.mu.Lock()
		s.back.cut = true // carried out, and not answered
		s.back.mu.Unlock()
		done := make(chan error, 3)
		go func() { done <- s.volume.WriteAt(context.Background(), []byte("first!"), 0, false) }()
		synctest.Wait()
		go func() { done <- s.volume.WriteAt(context.Background(), []byte("second"), 0, false) }()
		go func() { done <- s.volume.Flush(context.Background()) }()
		synctest.Wait()
		s.lose()
		if s.remote.Served() || s.remote.Pending() != 3 {
			t.Fatalf("%d requests wait", s.remote.Pending())
		}
		s.connect()
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		s.reads(0, []byte("second"))
	})
}

func TestRemoteWithoutAnyData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServed(t)
		done := make(chan error, 1)
		go func() { done <- s.volume.WriteAt(context.Background(), []byte("waits"), 0, false) }()
		synctest.Wait()
		s.remote.Fail()
		if err := <-done; !errors.Is(err, ErrNoData) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("the write that waited: %v", err)
		}
		if err := s.volume.Flush(context.Background()); !errors.Is(err, ErrNoData) {
			t.Fatalf("a flush: %v", err)
		}
		s.connect()
		s.write(0, []byte("served"))
		s.remote.Fail() // nobody is lost: it does nothing
		s.reads(0, []byte("served"))
		ctx, cancel := context.WithCancel(context.Background())
		s.lose()
		go func() { done <- s.volume.WriteAt(ctx, []byte("left"), 0, false) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || s.remote.Pending() != 0 {
			t.Fatalf("a client that left: %v", err)
		}
		s.connect()
		s.reads(0, []byte("served"))
	})
}

// Damaged data is sent again, in either direction, and never used; data that is always damaged is an error.
func TestRemoteDamage(t *testing.T) {
	s := newServed(t)
	s.connect()
	data := bytes.Repeat([]byte("good data "), 100)
	s.there.damage = 2
	s.write(0, data)
	s.back.damage = 2
	s.reads(0, data)
	s.there.damage = remoteTries + 1
	if err := s.volume.WriteAt(context.Background(), data, 4096, false); !errors.Is(err, errDamaged) {
		t.Errorf("damaged for ever: %v", err)
	}
	s.reads(4096, make([]byte, len(data)))
}

func TestRemoteDiskFails(t *testing.T) {
	s := newServed(t)
	s.connect()
	s.write(0, []byte("good"))
	s.plan.Add(disk.Fault{Ops: disk.OpWrite, Err: syscall.EIO, Times: 1})
	if err := s.volume.WriteAt(context.Background(), []byte("bad"), 0, false); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrNoData) {
		t.Errorf("write: %v", err)
	}
	s.plan.Add(disk.Fault{Ops: disk.OpSync, Err: syscall.EIO, Times: 1})
	if err := s.volume.WriteAt(context.Background(), []byte("bad"), 0, false); !errors.Is(err, syscall.EIO) {
		t.Errorf("a write that is not durable: %v", err)
	}
	s.plan.Add(disk.Fault{Ops: disk.OpWrite, Err: syscall.ENOSPC, Times: 1})
	if err := s.volume.WriteAt(context.Background(), []byte("full"), 0, false); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full disk: %v", err)
	}
	s.plan.Add(disk.Fault{Ops: disk.OpRead, Err: syscall.EIO, Times: 1})
	if err := s.volume.ReadAt(context.Background(), make([]byte, 4), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("read: %v", err)
	}
	if err := s.volume.ReadAt(context.Background(), make([]byte, 4), volumeSize-2); err == nil {
		t.Error("a read beyond the end went through")
	}
}

// A peer that asks for more at once than it may breaks the protocol; a client never does.
func TestRemoteIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServed(t)
		s.connect()
		hold := make(chan struct{})
		s.server.cfg.Begin = func() error { <-hold; s.group.Open(); return nil }
		done := make(chan error, 3*maxRemote)
		for i := range 3 * maxRemote {
			go func() { done <- s.volume.WriteAt(context.Background(), []byte("x"), int64(i)*4096, false) }()
		}
		synctest.Wait()
		if s.there.count != maxRemote {
			t.Errorf("%d requests are under way, the limit is %d", s.there.count, maxRemote)
		}
		s.server.mu.Lock()
		s.server.syncing = true // so that no flush ends
		s.server.mu.Unlock()
		m := &frame.IO{Op: frame.OpFlush}
		var err error
		for range maxServed {
			if err = s.server.Handle(context.Background(), m); err != nil {
				break
			}
		}
		if !errors.Is(err, errProtocol) {
			t.Errorf("no end to what a peer may ask for: %v", err)
		}
		synctest.Wait()
		s.server.work.Go(s.server.sync)
		synctest.Wait()
		close(hold)
		for range 3 * maxRemote {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
