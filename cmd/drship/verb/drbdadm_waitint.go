package verb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"drship/internal/config"
)

// waitDialogue is drbdadm wait-con-int, which init scripts run at boot: it waits for the peers, with the timeouts of startup { … }, and after a
// while lets somebody at the console give up waiting.
type waitDialogue struct {
	out      io.Writer
	answers  <-chan string // lines from the terminal; nil without one
	quiet    time.Duration // how long it says no more than dots
	refresh  time.Duration // redraw interval, 0 for none
	startup  *config.Resource
	resource string
}

// quietFor is how long drbdadm waits before it explains what it waits for.
const quietFor = 10 * time.Second

// waitInteractive waits for the connections of every resource of this host.
func (a *adm) waitInteractive(ctx context.Context) error {
	a.verb = "wait-connect"
	targets, err := a.targets()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	run := &app{deps: a.deps, node: a.node, drbd: true}
	defer run.close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done <- a.waitAll(ctx, run, targets)
	}()
	defer func() { cancel(); <-ended }()
	first := a.config.Resource(targets[0].resource)
	d := waitDialogue{out: a.deps.Stdout, quiet: quietFor, refresh: a.config.Global.DialogRefresh, startup: first, resource: first.Name}
	if a.deps.Terminal() {
		d.answers = lines(a.deps.Stdin)
	}
	return d.wait(ctx, done)
}

// waitAll waits for all resources at the same time, for each as long as its startup section says. A resource that is not up, or whose wait runs
// out, does not end the wait for the others.
func (a *adm) waitAll(ctx context.Context, run *app, targets []target) error {
	run.api() // made once, before several ask for it
	errs := make([]error, len(targets))
	var work sync.WaitGroup
	for i, t := range targets {
		work.Go(func() {
			timeout, afterSplit := waitOf(a.config.Resource(t.resource))
			if timeout > 0 {
				limited, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				errs[i] = run.waitFor(limited, connected(), []target{t}, afterSplit)
				return
			}
			errs[i] = run.waitFor(ctx, connected(), []target{t}, afterSplit)
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// waitOf is how long to wait for the peers of a resource, 0 for ever, and whether to go on behind a split brain. A stacked resource waits for
// twice connect-int unless stacked-timeouts says otherwise: its lower one has waited already.
func waitOf(r *config.Resource) (timeout time.Duration, afterSplit bool) {
	if r.Stacked && !r.Startup.StackedTimeouts {
		return 2 * r.Net.ConnectInt, r.Startup.WaitAfterSB
	}
	return r.Startup.WFCTimeout, r.Startup.WaitAfterSB
}

// wait returns when the wait is done, when somebody gives it up, or when ctx ends.
func (d *waitDialogue) wait(ctx context.Context, done <-chan error) error {
	dots := time.NewTicker(d.quiet / 10)
	defer dots.Stop()
	began := time.Now()
	for i := 0; i < 10; i++ {
		select {
		case err := <-done:
			return d.over(err, i > 0)
		case <-ctx.Done():
			return ctx.Err()
		case <-dots.C:
			fmt.Fprint(d.out, ".")
		}
	}
	d.explain()
	var redraw <-chan time.Time
	if d.answers != nil && d.refresh > 0 {
		t := time.NewTicker(d.refresh)
		defer t.Stop()
		redraw = t.C
	}
	for {
		select {
		case err := <-done:
			return d.over(err, true)
		case <-ctx.Done():
			return ctx.Err()
		case <-redraw:
			fmt.Fprintf(d.out, "\x1b[s\x1b[31G[%4d]:\x1b[u", int(time.Since(began)/time.Second))
		case answer, open := <-d.answers:
			if !open {
				d.answers = nil // nobody can answer any more
				continue
			}
			if answer == "yes" {
				fmt.Fprintln(d.out)
				return nil
			}
			fmt.Fprint(d.out, " To abort waiting enter 'yes' [ -- ]:")
		}
	}
}

// over ends the line of dots. A wait that ran out of time is told of, and is no failure: the boot goes on.
func (d *waitDialogue) over(err error, drawn bool) error {
	if drawn {
		fmt.Fprintln(d.out)
	}
	if err != nil {
		fmt.Fprintln(d.out, err)
	}
	return nil
}

func (d *waitDialogue) explain() {
	s := d.startup.Startup
	fmt.Fprintf(d.out, "\n***************************************************************\n"+
		" DRBD's startup script waits for the peer node(s) to appear.\n"+
		" - If this node was already a degraded cluster before the\n"+
		"   reboot, the timeout is %d seconds. [degr-wfc-timeout]\n"+
		" - If the peer was available before the reboot, the timeout\n"+
		"   is %d seconds. [wfc-timeout]\n"+
		"   (These values are for resource '%s'; 0 sec -> wait forever)\n",
		int(s.DegrWFCTimeout/time.Second), int(s.WFCTimeout/time.Second), d.resource)
	if d.answers == nil {
		fmt.Fprintf(d.out, " To abort waiting for DRBD connections, kill this process: kill %d\n", os.Getpid())
		return
	}
	fmt.Fprint(d.out, " To abort waiting enter 'yes' [ -- ]: ")
}

// lines reads lines until the end. Reading from a terminal cannot be broken off: the goroutine ends with the program.
func lines(r io.Reader) <-chan string {
	out := make(chan string)
	go func() {
		defer close(out)
		s := bufio.NewScanner(r)
		for s.Scan() {
			out <- strings.TrimSpace(s.Text())
		}
	}()
	return out
}
