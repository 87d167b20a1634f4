package nbdclient_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"drship/internal/nbd"
	"drship/internal/nbd/nbdclient"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ram is an export in memory.
type ram struct {
	mu      sync.Mutex
	data    []byte
	hold    chan struct{} // reads wait until it is closed
	entered chan struct{} // gets a token for each read that waits
	fail    error
}

func (r *ram) Size() int64                          { return int64(len(r.data)) }
func (r *ram) BlockSizes() (uint32, uint32, uint32) { return 1, 4096, 1 << 20 }
func (r *ram) ReadOnly() bool                       { return false }
func (r *ram) ReadAt(_ context.Context, p []byte, off int64) error {
	if r.hold != nil {
		r.entered <- struct{}{}
		<-r.hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	copy(p, r.data[off:])
	return r.fail
}
func (r *ram) WriteAt(_ context.Context, p []byte, off int64, _ bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	copy(r.data[off:], p)
	return nil
}
func (r *ram) Zero(ctx context.Context, off, n int64, o nbd.ZeroOptions) error {
	if o.Fast {
		return nbd.ErrNotSupported
	}
	return r.Trim(ctx, off, n, false)
}
func (r *ram) Trim(_ context.Context, off, n int64, _ bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.data[off : off+n])
	return r.fail
}
func (r *ram) Flush(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fail
}
func (r *ram) Extents(_ context.Context, off, n int64) ([]nbd.Extent, error) {
	return []nbd.Extent{{Len: n / 2}, {Len: n - n/2, Hole: true, Zero: true}}, nil
}

type one struct {
	e      nbd.Export
	refuse error
}

func (o one) Open(_ context.Context, name string, _ nbd.Client) (nbd.Export, func(), error) {
	if o.refuse != nil {
		return nil, nil, o.refuse
	}
	if name != "r0" {
		return nil, nil, nbd.ErrUnknown
	}
	return o.e, func() {}, nil
}
func (o one) List(context.Context) []nbd.Info {
	return []nbd.Info{{Name: "r0", Description: "volume 0 of r0"}, {Name: "r0/1"}}
}

// serve starts a server on a unix socket for the length of the test.
func serve(t *testing.T, cfg nbd.Config) (addr string) {
	t.Helper()
	addr = filepath.Join(t.TempDir(), "nbd.sock")
	l, err := net.Listen("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, cfg, l)
}

func start(t *testing.T, cfg nbd.Config, l net.Listener) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- nbd.NewServer(cfg).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, d nbdclient.Dialer, addr string) *nbdclient.Client {
	t.Helper()
	c, err := d.Dial(t.Context(), "unix", addr, "r0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestConcurrentRequests lets many goroutines write and read back their own part, beyond the largest payload too.
func TestConcurrentRequests(t *testing.T) {
	for _, simple := range []bool{false, true} {
		t.Run(fmt.Sprintf("simple=%v", simple), func(t *testing.T) {
			r := &ram{data: make([]byte, 16<<20)}
			c := dial(t, nbdclient.Dialer{Simple: simple}, serve(t, nbd.Config{Directory: one{e: r}}))
			if c.Size() != 16<<20 || c.ReadOnly() {
				t.Fatalf("size %d, read-only %v", c.Size(), c.ReadOnly())
			}
			var wg sync.WaitGroup
			for g := range 16 {
				wg.Go(func() {
					rng := mrand.New(mrand.NewPCG(1, uint64(g)))
					base := int64(g) << 20
					p, q := make([]byte, 1<<20), make([]byte, 1<<20)
					for range 20 {
						n := 1 + rng.IntN(100_000)
						off := base + rng.Int64N(int64(1<<20-n))
						for i := range p[:n] {
							p[i] = byte(rng.Uint32())
						}
						if err := c.WriteAt(t.Context(), p[:n], off, rng.IntN(2) == 0); err != nil {
							t.Error(err)
							return
						}
						if err := c.ReadAt(t.Context(), q[:n], off); err != nil || !bytes.Equal(p[:n], q[:n]) {
							t.Errorf("read back %d bytes at %d: err %v, equal %v", n, off, err, bytes.Equal(p[:n], q[:n]))
							return
						}
					}
				})
			}
			wg.Wait()
			whole := bytes.Repeat([]byte("drship"), 1<<20)
			if err := c.WriteAt(t.Context(), whole, 3, false); err != nil {
				t.Fatal(err)
			}
			back := make([]byte, len(whole))
			if err := c.ReadAt(t.Context(), back, 3); err != nil || !bytes.Equal(whole, back) {
				t.Fatalf("6 MiB in one call: err %v, equal %v", err, bytes.Equal(whole, back))
			}
			if err := c.Trim(t.Context(), 0, 16<<20, true); err != nil {
				t.Fatal(err)
			}
			back[0] = 1
			if err := c.ReadAt(t.Context(), back, 0); err != nil || !bytes.Equal(back, make([]byte, len(back))) {
				t.Fatalf("trimmed range does not read as zeroes (err %v)", err)
			}
		})
	}
}

func TestErrorsCarryCodeAndText(t *testing.T) {
	r := &ram{data: make([]byte, 4096)}
	addr := serve(t, nbd.Config{Directory: one{e: r}})
	c, simple := dial(t, nbdclient.Dialer{}, addr), dial(t, nbdclient.Dialer{Simple: true}, addr)
	ctx := t.Context()

	if err := c.WriteAt(ctx, make([]byte, 10), 4090, false); !errors.Is(err, nbd.ErrNoSpace) {
		t.Errorf("write behind the end: %v", err)
	}
	if err := simple.ReadAt(ctx, make([]byte, 10), 4090); !errors.Is(err, nbd.ErrInvalid) {
		t.Errorf("read behind the end: %v", err)
	}
	if err := c.Zero(ctx, 0, 10, nbd.ZeroOptions{Fast: true}); !errors.Is(err, nbd.ErrNotSupported) {
		t.Errorf("fast zero: %v", err)
	}
	if err := c.Zero(ctx, 0, 10, nbd.ZeroOptions{}); err != nil {
		t.Errorf("zero: %v", err)
	}
	ext, err := c.Extents(ctx, 0, 4096)
	want := []nbd.Extent{{Len: 2048}, {Len: 2048, Hole: true, Zero: true}}
	if err != nil || len(ext) != 2 || ext[0] != want[0] || ext[1] != want[1] {
		t.Errorf("extents %v, err %v", ext, err)
	}
	if _, err := simple.Extents(ctx, 0, 4096); !errors.Is(err, nbd.ErrNotSupported) {
		t.Errorf("extents without structured replies: %v", err)
	}
	r.mu.Lock()
	r.fail = fmt.Errorf("disk of r0 is gone: %w", nbd.ErrIO)
	r.mu.Unlock()
	err = c.Flush(ctx)
	var e *nbd.PolicyError
	if !errors.Is(err, nbd.ErrIO) || errors.As(err, &e) {
		t.Errorf("flush: %v", err)
	}
	var req *nbdclient.Error
	if !errors.As(err, &req) || req.Code != 5 || req.Text != "disk of r0 is gone: input/output error" {
		t.Errorf("flush: %#v", req)
	}
	if err := simple.ReadAt(ctx, make([]byte, 1), 0); !errors.Is(err, nbd.ErrIO) {
		t.Errorf("read: %v", err)
	}
}

func TestRefusalsCarryTheServersWords(t *testing.T) {
	const text = "r0 is Secondary here; promote it with: drship primary r0"
	addr := serve(t, nbd.Config{Directory: one{refuse: &nbd.PolicyError{Text: text}}})
	_, err := nbdclient.Dial(t.Context(), "unix", addr, "r0")
	var policy *nbd.PolicyError
	var refused *nbdclient.RefusedError
	if !errors.As(err, &policy) || policy.Text != text || !errors.As(err, &refused) || refused.Export != "r0" {
		t.Errorf("refused with %v", err)
	}
	addr = serve(t, nbd.Config{Directory: one{}})
	if _, err := nbdclient.Dial(t.Context(), "unix", addr, "r9"); !errors.Is(err, nbd.ErrUnknown) {
		t.Errorf("unknown export: %v", err)
	}
	list, err := nbdclient.List(t.Context(), "unix", addr)
	if err != nil || len(list) != 2 || list[0] != (nbd.Info{Name: "r0", Description: "volume 0 of r0"}) || list[1].Name != "r0/1" {
		t.Errorf("list %v, err %v", list, err)
	}
}

// TestContextEndsWait leaves a read that the server holds, and uses the connection further.
func TestContextEndsWait(t *testing.T) {
	r := &ram{data: bytes.Repeat([]byte{7}, 1<<20), hold: make(chan struct{}), entered: make(chan struct{}, 8)}
	c := dial(t, nbdclient.Dialer{}, serve(t, nbd.Config{Directory: one{e: r}}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-r.entered
		cancel()
	}()
	p := make([]byte, 4096)
	if err := c.ReadAt(ctx, p, 0); !errors.Is(err, context.Canceled) {
		t.Fatalf("held read: %v", err)
	}
	close(r.hold)
	q := make([]byte, 4096)
	if err := c.ReadAt(t.Context(), q, 0); err != nil || q[0] != 7 {
		t.Fatalf("read after: %v, %d", err, q[0])
	}
	if p[0] != 0 {
		t.Error("an abandoned read wrote to its memory")
	}
}

func TestCloseFailsWhatIsInFlight(t *testing.T) {
	r := &ram{data: make([]byte, 4096), hold: make(chan struct{}), entered: make(chan struct{}, 8)}
	c := dial(t, nbdclient.Dialer{}, serve(t, nbd.Config{Directory: one{e: r}}))
	got := make(chan error, 1)
	go func() { got <- c.ReadAt(context.Background(), make([]byte, 512), 0) }()
	<-r.entered
	c.Close()
	if err := <-got; !errors.Is(err, nbdclient.ErrClosed) {
		t.Errorf("read in flight: %v", err)
	}
	if err := c.Flush(t.Context()); !errors.Is(err, nbdclient.ErrClosed) {
		t.Errorf("flush after close: %v", err)
	}
	close(r.hold)
}

// TestTLS requires TLS on TCP: without it only a refusal comes, with it data flows.
func TestTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, client := certificate(t)
	r := &ram{data: make([]byte, 4<<20)}
	addr := start(t, nbd.Config{Directory: one{e: r}, TLS: server, RequireTLS: true}, l)
	var refused *nbdclient.RefusedError
	if _, err := nbdclient.Dial(t.Context(), "tcp", addr, "r0"); !errors.As(err, &refused) || refused.Reply != nbd.RepErrTLSReqd {
		t.Fatalf("without TLS: %v", err)
	}
	c, err := nbdclient.Dialer{TLS: client}.Dial(t.Context(), "tcp", addr, "r0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, q := make([]byte, 3<<20), make([]byte, 3<<20)
	_, _ = rand.Read(p)
	if err := c.WriteAt(t.Context(), p, 100, true); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadAt(t.Context(), q, 100); err != nil || !bytes.Equal(p, q) {
		t.Fatalf("err %v, equal %v", err, bytes.Equal(p, q))
	}
	if err := c.ReadAt(t.Context(), q[:4096], 100); err != nil || !bytes.Equal(p[:4096], q[:4096]) {
		t.Fatalf("small read: err %v", err)
	}
}

// certificate makes a self-signed certificate and the configurations of both sides.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"alice"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{RootCAs: roots, ServerName: "alice"}
}
