package wan

import (
	"context"
	"sync"

	"github.com/quic-go/quic-go"
)

// maxWindows bounds what the receive windows of an Endpoint's connections may grow by, all told, in bytes. Windows follow
// bandwidth and delay by themselves (quic-go doubles one that is used up within two round trips); a session's stripes share the line, so
// together they need no more than one of them alone would.
const maxWindows = 96 << 20

// windows keeps count of how much windows have grown.
type windows struct {
	mu    sync.Mutex
	grown uint64
	by    map[*quic.Conn]uint64
}

// allow is quic.Config's AllowConnectionWindowIncrease.
func (w *windows) allow(conn *quic.Conn, delta uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if delta > maxWindows || w.grown > maxWindows-delta {
		return false
	}
	if w.by == nil {
		w.by = map[*quic.Conn]uint64{}
	}
	if _, known := w.by[conn]; !known {
		context.AfterFunc(conn.Context(), func() { w.release(conn) })
	}
	w.by[conn] += delta
	w.grown += delta
	return true
}

// release gives back what a connection had, at its end.
func (w *windows) release(conn *quic.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.grown -= w.by[conn]
	delete(w.by, conn)
}
