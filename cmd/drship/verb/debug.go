package verb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"
)

// listenDebug opens a unix socket for profiles and returns the function that serves it until its context ends.
func listenDebug(path string, log *slog.Logger) (func(context.Context), error) {
	if c, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("open debug socket: somebody answers on %s", path), c.Close())
	} else if info, serr := os.Lstat(path); serr == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove stale debug socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open debug socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect debug socket: %w", err), l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	return func(ctx context.Context) {
		defer context.AfterFunc(ctx, func() { srv.Close() })() //nolint:errcheck // profiles under way are cut
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("debug socket", "err", err)
		}
	}, nil
}
