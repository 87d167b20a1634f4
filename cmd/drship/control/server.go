package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"drship/internal/face"

	"golang.org/x/net/netutil"
)

// The bounds of the control socket.
const (
	maxRequestBody = 64 << 10
	maxHeader      = 16 << 10
	maxAnswer      = 16 << 20 // a reply, or one snapshot
	maxConnections = 256
	maxResources   = 1024 // names in one query

	headerTimeout = 5 * time.Second
	bodyTimeout   = 5 * time.Second
	idleTimeout   = time.Minute
	// writeTimeout ends a watch whose reader takes nothing for that long.
	writeTimeout = 30 * time.Second
	// stopGrace is how long a verb under way may take to finish once the daemon stops.
	stopGrace = 5 * time.Second
)

// Serve answers verbs on l with api until ctx ends, and returns when every request has ended and l is closed. A verb
// under way then has five seconds to finish before its context ends; a watch ends at once.
func Serve(ctx context.Context, l net.Listener, api API, log *slog.Logger) error {
	verbs, cutVerbs := context.WithCancel(context.WithoutCancel(ctx))
	defer cutVerbs()
	s := &server{api: api, log: log, stopping: ctx}
	srv := &http.Server{
		Handler:           s.routes(),
		BaseContext:       func(net.Listener) context.Context { return verbs },
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	var wg sync.WaitGroup
	served := make(chan struct{})
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-served:
		}
		grace, cancel := context.WithTimeout(verbs, stopGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			cutVerbs()
			srv.Close() //nolint:errcheck // whatever it closes late was cut already
		}
	})
	err := srv.Serve(netutil.LimitListener(l, maxConnections))
	close(served)
	wg.Wait()
	s.handlers.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve control socket: %w", err)
}

type server struct {
	api      API
	log      *slog.Logger
	stopping context.Context // ends when the daemon begins to stop
	handlers sync.WaitGroup  // requests being answered; Close of an http.Server does not wait for them
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/do", s.do)
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/watch", s.watch)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handlers.Add(1)
		defer s.handlers.Done()
		mux.ServeHTTP(w, r)
	})
}

func (s *server) do(w http.ResponseWriter, r *http.Request) {
	req, err := readRequest(w, r)
	if err != nil {
		s.fail(w, http.StatusBadRequest, &Error{What: "control request", Text: err.Error(), Exit: ExitHard})
		return
	}
	s.log.Debug("verb", "verb", req.Verb, "resource", req.Resource, "volume", req.Volume, "peer", req.Peer)
	reply, err := s.api.Do(r.Context(), req)
	if err != nil {
		s.fail(w, http.StatusConflict, asError(err))
		return
	}
	s.answer(w, http.StatusOK, reply)
}

func readRequest(w http.ResponseWriter, r *http.Request) (Request, error) {
	req := Request{Volume: AnyVolume}
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
		return req, fmt.Errorf("bound the time to read: %w", err)
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequestBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		return req, fmt.Errorf("read request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return req, errors.New("read request: something follows it")
	}
	if req.Verb == "" {
		return req, errors.New("read request: it names no verb")
	}
	// The verb may take longer than reading it did.
	if err := rc.SetReadDeadline(time.Time{}); err != nil {
		return req, fmt.Errorf("lift the bound on time: %w", err)
	}
	return req, nil
}

func (s *server) names(w http.ResponseWriter, r *http.Request) ([]string, bool) {
	names := r.URL.Query()["resource"]
	if len(names) > maxResources {
		s.fail(w, http.StatusBadRequest, &Error{Text: fmt.Sprintf("more than %d resources named", maxResources), Exit: ExitUsage})
		return nil, false
	}
	return names, true
}

func (s *server) status(w http.ResponseWriter, r *http.Request) {
	names, ok := s.names(w, r)
	if !ok {
		return
	}
	rs, err := s.api.Status(r.Context(), names)
	if err != nil {
		s.fail(w, http.StatusConflict, asError(err))
		return
	}
	s.answer(w, http.StatusOK, rs)
}

func (s *server) watch(w http.ResponseWriter, r *http.Request) {
	names, ok := s.names(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	snapshots, err := s.api.Watch(ctx, names)
	if err != nil {
		s.fail(w, http.StatusConflict, asError(err))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	err = http.NewResponseController(w).Flush() // the caller knows that it is heard, before anything happens
	for rs := range snapshots {
		if err == nil {
			err = writeSnapshot(w, rs)
		}
		if err != nil {
			s.log.Debug("watch ended", "err", err)
			cancel()
			break
		}
	}
	for range snapshots { // the sender closes it once it sees ctx; waiting keeps its goroutine inside this request
	}
}

func writeSnapshot(w http.ResponseWriter, rs []face.Resource) error {
	b, err := encode(rs)
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	rc := http.NewResponseController(w)
	if err := rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("bound the time to write: %w", err)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("send snapshot: %w", err)
	}
	if err := rc.Flush(); err != nil {
		return fmt.Errorf("send snapshot: %w", err)
	}
	return nil
}

// encode gives v as one line of JSON, or fails where the other side would refuse its length.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) >= maxAnswer {
		return nil, fmt.Errorf("answer of %d bytes is over the limit of %d", len(b), maxAnswer)
	}
	return append(b, '\n'), nil
}

func (s *server) answer(w http.ResponseWriter, status int, v any) {
	b, err := encode(v)
	if err != nil {
		status = http.StatusInternalServerError
		b = []byte(`{"text":"the answer could not be encoded","exit":20}` + "\n")
		s.log.Error("control answer", "err", err)
	}
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		s.log.Debug("control answer", "err", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(b); err != nil {
		s.log.Debug("control answer not taken", "err", err)
	}
}

func (s *server) fail(w http.ResponseWriter, status int, e *Error) { s.answer(w, status, e) }
