package tun

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Real-time priorities: a line is not slowed down by what is measured over it.
const (
	subjectPriority = 1
	enginePriority  = 2
)

// goFirst gives the calling thread, and the processes that it starts, a real-time priority.
func goFirst(priority uint32) error {
	return unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_RR, Priority: priority}, 0)
}

// First lets all processes that are started inside from now on go before those of the machine that are not, engines of lines excepted:
// what is measured inside then depends less on what else the machine does.
func (s *Space) First() error {
	if err := s.Do(func() error { return goFirst(subjectPriority) }); err != nil {
		return fmt.Errorf("raise the priority of a network namespace's processes: %w", err)
	}
	return nil
}

// First does the same for the threads that this process has now, and not for the processes that they start.
func First() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("find own threads: %w", err)
	}
	for _, t := range tasks {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("find own threads: %w", err)
		}
		attr := unix.SchedAttr{Policy: unix.SCHED_RR, Priority: subjectPriority, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
		if err := unix.SchedSetAttr(id, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("raise the priority of own threads: %w", err)
		}
	}
	return nil
}
