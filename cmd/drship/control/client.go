package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"syscall"

	"drship/internal/face"
)

// Client is an API carried over a control socket. It may be used concurrently.
type Client struct {
	path string
	http *http.Client
}

var _ API = (*Client)(nil)

// Dial returns a client of the daemon behind a control socket. It connects when it is first used; an *Error with exit
// code 20 then says that no daemon runs, and how to start it.
func Dial(socketPath string) *Client {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socketPath)
		},
		MaxResponseHeaderBytes: maxHeader,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    2,
		DisableCompression:     true,
	}
	return &Client{path: socketPath, http: &http.Client{Transport: t}}
}

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Do implements API.
func (c *Client) Do(ctx context.Context, r Request) (Reply, error) {
	var reply Reply
	body, err := json.Marshal(r)
	if err != nil {
		return reply, fmt.Errorf("encode request: %w", err)
	}
	err = c.exchange(ctx, http.MethodPost, "/v1/do", nil, body, &reply)
	return reply, err
}

// Status implements API.
func (c *Client) Status(ctx context.Context, resources []string) ([]face.Resource, error) {
	var rs []face.Resource
	err := c.exchange(ctx, http.MethodGet, "/v1/status", resources, nil, &rs)
	return rs, err
}

// Watch implements API. The channel holds the newest snapshot only: a reader that is slow does not hold up the daemon.
// It is closed when ctx ends and when the daemon goes away, which the caller tells apart by ctx.
func (c *Client) Watch(ctx context.Context, resources []string) (<-chan []face.Resource, error) {
	resp, err := c.open(ctx, http.MethodGet, "/v1/watch", resources, nil)
	if err != nil {
		return nil, err
	}
	out := make(chan []face.Resource, 1)
	go func() { // ends with ctx or the connection; closing out tells its reader
		defer close(out)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(make([]byte, 0, 64<<10), maxAnswer)
		for lines.Scan() {
			var rs []face.Resource
			if json.Unmarshal(lines.Bytes(), &rs) != nil {
				return
			}
			select {
			case <-out: // take back what nobody has read
			default:
			}
			out <- rs // there is room: this goroutine alone fills it
		}
	}()
	return out, nil
}

func (c *Client) exchange(ctx context.Context, method, path string, resources []string, body []byte, into any) error {
	resp, err := c.open(ctx, method, path, resources, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return c.unreachable(ctx, fmt.Errorf("read answer: %w", err))
	}
	return nil
}

// open sends a request and returns its answer once that is known to be good; the caller closes the body.
func (c *Client) open(ctx context.Context, method, path string, resources []string, body []byte) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "drship", Path: path, RawQuery: url.Values{"resource": resources}.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
		return nil, &Error{What: c.path, Text: "the daemon does not know the request " + path,
			Hint: "program and daemon are of different versions: restart the daemon", Exit: ExitHard}
	}
	var e Error
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&e); err != nil || e.Text == "" && e.Code == 0 {
		return nil, &Error{What: c.path, Text: "the daemon answered " + resp.Status, Exit: ExitHard}
	}
	return nil, &e
}

// unreachable says why there was no answer.
func (c *Client) unreachable(ctx context.Context, err error) error {
	dir := filepath.Dir(c.path)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return &Error{What: c.path, Text: "no drship daemon is running with this run directory",
			Hint: "start it (systemctl start drship, or: drship daemon --run-dir " + dir + "), or name its run directory by --run-dir or DRSHIP_RUN_DIR",
			Exit: ExitHard, noDaemon: true}
	case errors.Is(err, fs.ErrPermission):
		return &Error{What: c.path, Text: "the control socket may not be opened by this user",
			Hint: "run this as the daemon's user, usually root", Exit: ExitHard}
	case errors.Is(err, syscall.EINVAL) && len(c.path) > maxSocketPath:
		return &Error{What: c.path, Text: fmt.Sprintf("path of the control socket is longer than %d bytes", maxSocketPath),
			Hint: "choose a shorter --run-dir", Exit: ExitUsage}
	}
	return &Error{What: c.path, Text: "the daemon went away before it answered: " + err.Error(),
		Hint: "look at its log, and ask again once it is back", Exit: ExitHard}
}
