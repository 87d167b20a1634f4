package nbd

import (
	"context"
	"net"
	"net/http"
	_ "net/http/pprof" // only for measurements, only in the test binary
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// TestServeFile is a server to measure with other programs, not a test. It serves the file NBD_SERVE_FILE on the unix socket
// NBD_SERVE_SOCKET until it is interrupted; NBD_SERVE_PPROF=host:port opens the profiler.
//
//	go test -c -o /tmp/nbd.test ./internal/nbd
//	NBD_SERVE_FILE=disk.img NBD_SERVE_SOCKET=/tmp/nbd.sock /tmp/nbd.test -test.run '^TestServeFile$' -test.timeout 0
//	fio --name=x --ioengine=nbd --uri='nbd+unix:///?socket=/tmp/nbd.sock' --rw=randwrite --bs=4k --iodepth=32 --time_based --runtime=5
func TestServeFile(t *testing.T) {
	socket := os.Getenv("NBD_SERVE_SOCKET")
	if socket == "" {
		t.Skip("a server for measurements: set NBD_SERVE_SOCKET and NBD_SERVE_FILE")
	}
	f, err := os.OpenFile(os.Getenv("NBD_SERVE_FILE"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	if addr := os.Getenv("NBD_SERVE_PPROF"); addr != "" {
		go func() { _ = http.ListenAndServe(addr, nil) }()
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := NewServer(Config{Directory: &shelf{exports: map[string]Export{"": &file{f: f, size: size}}}})
	if err := s.Serve(ctx, l); err != nil {
		t.Fatal(err)
	}
}
