package verb

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"drship/cmd/drship/control"

	"github.com/coreos/go-systemd/v22/daemon"
)

// supervisor tells systemd how the node is. Without systemd it does nothing.
type supervisor struct {
	socket   string        // control socket: what the watchdog asks
	notified bool          // systemd listens
	watchdog time.Duration // longest silence that it accepts; 0 for no watchdog
	log      *slog.Logger
}

func newSupervisor(getenv func(string) string, socket string, log *slog.Logger) *supervisor {
	s := &supervisor{socket: socket, notified: getenv("NOTIFY_SOCKET") != "", log: log}
	if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 && s.notified {
		s.watchdog = time.Duration(us) * time.Microsecond
	}
	return s
}

// run says READY once ready is closed, then answers the watchdog for as long as the node answers verbs, and says STOPPING
// when ctx ends.
func (s *supervisor) run(ctx context.Context, ready <-chan struct{}) {
	if !s.notified {
		return
	}
	select {
	case <-ready:
		s.say(daemon.SdNotifyReady)
	case <-ctx.Done():
	}
	s.keepAlive(ctx)
	s.say(daemon.SdNotifyStopping)
}

// keepAlive asks the node something over its own control socket before each sign of life: a daemon whose keeper is stuck is
// restarted, which loses nothing that was acknowledged.
func (s *supervisor) keepAlive(ctx context.Context) {
	if s.watchdog == 0 {
		<-ctx.Done()
		return
	}
	client := control.Dial(s.socket)
	defer client.Close()
	tick := time.NewTicker(s.watchdog / 3)
	defer tick.Stop()
	for {
		if err := s.alive(ctx, client); err != nil && ctx.Err() == nil {
			s.log.Error("watchdog", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *supervisor) alive(ctx context.Context, api control.API) error {
	ctx, cancel := context.WithTimeout(ctx, s.watchdog/2)
	defer cancel()
	if _, err := api.Status(ctx, nil); err != nil {
		return fmt.Errorf("ask the node for its status: %w", err)
	}
	s.say(daemon.SdNotifyWatchdog)
	return nil
}

func (s *supervisor) say(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("systemd was not told", "state", state, "err", err)
	}
}
