package tun

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"drship/bench/wan/emu"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// tolerance is how well a line holds what it is told.
const tolerance = 0.05

func startLine(t *testing.T, p emu.Params) *Line {
	t.Helper()
	if testing.Short() {
		t.Skip("makes real network namespaces: not in a -short run (see make proofs)")
	}
	if err := Available(); err != nil {
		t.Skip(err)
	}
	l, err := Start(Config{Link: [2]emu.Params{p, p}, Seed: 11})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// listenUDP opens a socket inside, with room for all that a test sends, and the kernel's time on all that it receives.
func listenUDP(t *testing.T, s *Space, addr netip.Addr) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	if err := s.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 9000)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var errs [2]error
	if err := raw.Control(func(fd uintptr) {
		errs[0] = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 128<<20)
		errs[1] = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}); err != nil || errs[0] != nil || errs[1] != nil {
		t.Fatal(err, errs)
	}
	return c
}

// arrival is a datagram that came, with the number and the time of sending that it held.
type arrival struct {
	number   uint64
	sent, at time.Time
	size     int
	data     []byte
}

// receive takes datagrams until none has come for quiet.
func receive(t *testing.T, c *net.UDPConn, quiet time.Duration) (all []arrival) {
	t.Helper()
	buf, oob := make([]byte, 65536), make([]byte, 256)
	for {
		if err := c.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			t.Fatal(err)
		}
		n, oobn, _, _, err := c.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			return all
		}
		a := arrival{size: n, at: kernelTime(t, oob[:oobn]), data: bytes.Clone(buf[:min(n, 64)])}
		if n >= 16 {
			a.number = binary.BigEndian.Uint64(buf)
			a.sent = time.Unix(0, int64(binary.BigEndian.Uint64(buf[8:])))
		}
		all = append(all, a)
	}
}

// kernelTime is when the kernel received a datagram: a busy machine does not spoil it.
func kernelTime(t *testing.T, oob []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 || len(messages[0].Data) < 16 {
		t.Fatalf("no time of arrival: %v", err)
	}
	d := messages[0].Data
	return time.Unix(int64(binary.NativeEndian.Uint64(d)), int64(binary.NativeEndian.Uint64(d[8:])))
}

// send numbers and stamps one datagram.
func send(t *testing.T, c *net.UDPConn, to netip.AddrPort, number uint64, p []byte) {
	t.Helper()
	binary.BigEndian.PutUint64(p, number)
	binary.BigEndian.PutUint64(p[8:], uint64(time.Now().UnixNano()))
	if _, err := c.WriteToUDPAddrPort(p, to); err != nil {
		t.Fatal(err)
	}
}

func look(t *testing.T, l *Line, d Direction) Counters {
	t.Helper()
	c, _, err := l.Look(d)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ends are the sockets of a test, and where B's is.
func ends(t *testing.T, l *Line) (a, b *net.UDPConn, toB netip.AddrPort) {
	return listenUDP(t, l.A, l.AddrA()), listenUDP(t, l.B, l.AddrB()), netip.AddrPortFrom(l.AddrB(), 9000)
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance*want {
		t.Errorf("%s is %v, want %v within %v %%", what, got, want, tolerance*100)
	} else {
		t.Logf("%s is %v, told %v", what, got, want)
	}
}

func TestHoldsDelay(t *testing.T) {
	l := startLine(t, emu.Params{})
	a, b, to := ends(t, l)
	for _, delay := range []time.Duration{5 * time.Millisecond, 25 * time.Millisecond, 150 * time.Millisecond} {
		if err := l.SetBoth(emu.Params{Delay: delay}); err != nil {
			t.Fatal(err)
		}
		tick := time.NewTicker(2 * time.Millisecond)
		for i := range uint64(150) {
			send(t, a, to, i, make([]byte, 200))
			<-tick.C
		}
		tick.Stop()
		var took []time.Duration
		for _, v := range receive(t, b, delay+500*time.Millisecond) {
			took = append(took, v.at.Sub(v.sent))
		}
		if len(took) != 150 {
			t.Fatalf("%d of 150 arrived", len(took))
		}
		slices.Sort(took) // the median: the sender may have been stopped between stamping and sending
		near(t, "one-way delay in ms", took[len(took)/2].Seconds()*1e3, delay.Seconds()*1e3)
	}
}

func TestHoldsRate(t *testing.T) {
	const length = 1400
	l := startLine(t, emu.Params{})
	a, b, to := ends(t, l)
	for _, rate := range []int64{10_000_000, 100_000_000} {
		if err := l.SetBoth(emu.Params{Rate: rate, Delay: 10 * time.Millisecond, Queue: rate / 8}); err != nil { // a second's worth
			t.Fatal(err)
		}
		// Half as much again as the line carries, for a second: the queue is never empty and never full.
		total := int(rate / 8 * 3 / 2 / length)
		begin, p := time.Now(), make([]byte, length)
		tick := time.NewTicker(time.Millisecond)
		for i := 0; i < total; <-tick.C {
			for due := int(float64(total) * time.Since(begin).Seconds()); i < min(due, total); i++ {
				send(t, a, to, uint64(i), p)
			}
		}
		tick.Stop()
		all := receive(t, b, 500*time.Millisecond)
		if len(all) != total {
			t.Fatalf("%d of %d arrived: %+v", len(all), total, look(t, l, AtoB))
		}
		span := all[len(all)-1].at.Sub(all[0].at)
		const headers = 28
		near(t, "rate in Mbit/s", float64(len(all)-1)*(length+headers)*8/span.Seconds()/1e6, float64(rate)/1e6)
	}
}

func TestHoldsLoss(t *testing.T) {
	const total = 60_000
	l := startLine(t, emu.Params{})
	a, b, to := ends(t, l)
	for _, p := range []emu.Params{{Loss: 0.05}, {Loss: 0.05, Burst: 4}} {
		if err := l.Set(AtoB, p); err != nil {
			t.Fatal(err)
		}
		for i := range uint64(total) {
			send(t, a, to, i, make([]byte, 100))
			if i%500 == 0 { // no faster than the forwarder: it tells when it has seen them
				for look(t, l, AtoB).In%total+500 < i {
				}
			}
		}
		all := receive(t, b, 500*time.Millisecond)
		near(t, p.String()+": share lost", 1-float64(len(all))/total, 0.05)
		c := look(t, l, AtoB)
		if c.Missed != 0 || c.Refused != 0 || c.In%total != 0 {
			t.Errorf("the emulator itself lost some: %+v", c)
		}
		if c := look(t, l, BtoA); c.DroppedLoss != 0 {
			t.Errorf("the other direction: %+v", c)
		}
	}
}

func TestReorderDuplicateCorruptAndCut(t *testing.T) {
	const total = 4000
	l := startLine(t, emu.Params{Delay: 10 * time.Millisecond})
	a, b, to := ends(t, l)
	round := func(p emu.Params) []arrival {
		t.Helper()
		p.Delay = 10 * time.Millisecond
		if err := l.Set(AtoB, p); err != nil {
			t.Fatal(err)
		}
		for i := range uint64(total) {
			send(t, a, to, i, make([]byte, 48))
		}
		return receive(t, b, 500*time.Millisecond)
	}
	overtaken, all := 0, round(emu.Params{Reorder: 0.1, ReorderBy: 3 * time.Millisecond})
	for i := 1; i < len(all); i++ {
		if all[i].number < all[i-1].number {
			overtaken++
		}
	}
	if len(all) != total || overtaken == 0 {
		t.Errorf("reorder: %d arrived, %d were overtaken", len(all), overtaken)
	}
	if all := round(emu.Params{Duplicate: 0.2}); len(all) < total*11/10 || uint64(len(all)-total) != look(t, l, AtoB).Duplicated {
		t.Errorf("duplicate: %d of %d arrived", len(all), total)
	}
	all = round(emu.Params{Corrupt: 0.2})
	if n := look(t, l, AtoB).Corrupted; uint64(total-len(all)) != n || n < total/10 {
		t.Errorf("corrupt: %d of %d arrived, %d are counted", len(all), total, n)
	}
	before := look(t, l, AtoB).Corrupted
	wrong := uint64(0)
	all = round(emu.Params{Corrupt: 0.2, Forge: true})
	for _, v := range all {
		if v.number >= total || v.sent.Before(time.Now().Add(-time.Hour)) || v.sent.After(time.Now()) || bytes.Count(v.data[16:], []byte{0}) != 32 {
			wrong++
		}
	}
	if n := look(t, l, AtoB).Corrupted - before; len(all) != total || wrong == 0 || wrong > n {
		t.Errorf("forge: %d of %d arrived, %d of them visibly wrong, %d are counted", len(all), total, wrong, n)
	}
	if err := l.CutDirection(AtoB); err != nil {
		t.Fatal(err)
	}
	if all := round(emu.Params{}); len(all) != 0 || !look(t, l, AtoB).Cut || look(t, l, BtoA).Cut {
		t.Errorf("cut: %d arrived", len(all))
	}
	if err := l.HealDirection(AtoB); err != nil {
		t.Fatal(err)
	}
	if all := round(emu.Params{}); len(all) != total {
		t.Errorf("healed: %d of %d arrived", len(all), total)
	}
}

// TestUDPSuperPackets sends through UDP_SEGMENT: the model must see the packets, and the receiver must get them whole.
func TestUDPSuperPackets(t *testing.T) {
	const segment, rows, row = 1200, 200, 40
	l := startLine(t, emu.Params{Delay: time.Millisecond, Rate: 200_000_000, Queue: 64 << 20, Loss: 0.1, Reorder: 0.05})
	a, b, to := ends(t, l)
	raw, err := a.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, segment) }); cerr != nil || err != nil {
		t.Skipf("no UDP_SEGMENT here: %v, %v", cerr, err)
	}
	p := make([]byte, segment*row)
	for i := range rows {
		for j := range row {
			binary.BigEndian.PutUint64(p[j*segment:], uint64(i*row+j))
		}
		if _, err := a.WriteToUDPAddrPort(p, to); err != nil {
			t.Fatal(err)
		}
	}
	all := receive(t, b, 500*time.Millisecond)
	c := look(t, l, AtoB)
	if c.In != rows*row || uint64(len(all)) != c.Out || c.Out+c.DroppedLoss != c.In || c.DroppedLoss == 0 {
		t.Errorf("%d arrived, counters %+v", len(all), c)
	}
	seen := map[uint64]bool{}
	for _, v := range all {
		if v.size != segment || v.number >= rows*row || seen[v.number] {
			t.Fatalf("datagram %d with %d bytes", v.number, v.size)
		}
		seen[v.number] = true
	}
}

// copyTCP sends total random bytes from A to B over a connection and compares what comes out; it returns how long it took.
func copyTCP(t *testing.T, l *Line, version, total int) time.Duration {
	t.Helper()
	var ln *net.TCPListener
	address := netip.AddrPortFrom(Addr(false, version), 9001)
	if err := l.B.Do(func() (err error) {
		ln, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(address))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	block := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(block)
	result := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			result <- err
			return
		}
		defer c.Close()
		got, n := make([]byte, len(block)), 0
		for err == nil {
			if _, err = io.ReadFull(c, got); err == nil && !bytes.Equal(got, block) {
				err = fmt.Errorf("wrong bytes between %d and %d", n, n+len(got))
			}
			n += len(got)
		}
		if err == io.EOF && n-len(got) == total {
			err = nil
		}
		result <- err
	}()
	var c *net.TCPConn
	if err := l.A.Do(func() (err error) {
		c, err = net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(address))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for range total / len(block) {
		if _, err := c.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Errorf("TCP over IPv%d: %v", version, err)
	}
	return time.Since(begin)
}

func TestTCPOverEverything(t *testing.T) {
	p := emu.Params{Delay: time.Millisecond, Jitter: time.Millisecond, Rate: 400_000_000, Loss: 0.002, Burst: 3,
		Reorder: 0.01, ReorderBy: time.Millisecond, Duplicate: 0.01, Corrupt: 0.001}
	l := startLine(t, p)
	for _, version := range []int{4, 6} {
		copyTCP(t, l, version, 16<<20)
	}
	if c := look(t, l, AtoB); c.Corrupted == 0 || c.Reordered == 0 || c.Duplicated == 0 || c.DroppedLoss == 0 || c.Malformed != 0 {
		t.Errorf("counters %+v", c)
	}
}

// TestCarriesGigabit measures the processor time that a transfer costs the emulator: whatever else the machine does, a direction that needs
// less than a second of it for a gigabit is not the bottleneck at 1 Gbit/s.
func TestCarriesGigabit(t *testing.T) {
	const total = 512 << 20
	l := startLine(t, emu.Params{Delay: time.Millisecond, Rate: 2_000_000_000, Loss: 0.0001, Queue: 8 << 20})
	before := processorTime(t, l)
	took := copyTCP(t, l, 4, total)
	used := processorTime(t, l) - before
	t.Logf("%.2f Gbit/s; the emulator could carry %.2f Gbit/s with one processor", total*8/took.Seconds()/1e9, total*8/used.Seconds()/1e9)
	if used.Seconds() > total*8/1e9 {
		t.Errorf("%v of processor time for %d MB", used, total/1_000_000)
	}
	if c := look(t, l, AtoB); c.Missed != 0 || c.Refused != 0 {
		t.Errorf("counters %+v", c)
	}
}

// processorTime is what the engine has used so far.
func processorTime(t *testing.T, l *Line) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.engine.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var ticks int
	for _, f := range strings.Fields(rest)[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}
