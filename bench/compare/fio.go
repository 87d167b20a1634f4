package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"time"
)

// workload is one way of writing.
type workload struct {
	name  string
	rw    string
	block string
	depth int
	mega  bool // a matter of MB/s, not of requests
}

var loopbackLoads = []workload{
	{name: "4 KiB random, depth 1", rw: "randwrite", block: "4k", depth: 1},
	{name: "4 KiB random, depth 32", rw: "randwrite", block: "4k", depth: 32},
	{name: "1 MiB sequential", rw: "write", block: "1m", depth: 4, mega: true},
}

var lineLoads = loopbackLoads[:2]

// measurement is what fio saw of one run.
type measurement struct {
	iops, bytes float64       // a second
	p50, p99    time.Duration // completion latency
	requests    int64
	processor   []time.Duration // of each process of the subject, per request
	behind      int64           // what the peer lacked at the end, bytes
}

func fio(ctx context.Context, uri string, w workload, runtime time.Duration) (measurement, error) {
	cmd := exec.CommandContext(ctx, "fio", "--name=w", "--ioengine=nbd", "--uri="+uri, "--rw="+w.rw, "--bs="+w.block,
		fmt.Sprintf("--iodepth=%d", w.depth), fmt.Sprintf("--size=%d", volumeSize), "--time_based", "--randrepeat=0",
		fmt.Sprintf("--runtime=%dms", runtime.Milliseconds()), "--refill_buffers=0", "--buffer_compress_percentage=0", "--output-format=json")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return measurement{}, fmt.Errorf("fio: %w: %s", err, errs.Bytes())
	}
	var report struct {
		Jobs []struct {
			Error int `json:"error"`
			Write struct {
				IOPS  float64 `json:"iops"`
				Bytes float64 `json:"bw_bytes"`
				Total int64   `json:"total_ios"`
				Clat  struct {
					Percentile map[string]int64 `json:"percentile"`
				} `json:"clat_ns"`
			} `json:"write"`
		} `json:"jobs"`
	}
	start := bytes.IndexByte(out.Bytes(), '{') // the engine may print a line before
	if start < 0 {
		return measurement{}, fmt.Errorf("fio printed no report: %s", out.Bytes())
	}
	if err := json.Unmarshal(out.Bytes()[start:], &report); err != nil {
		return measurement{}, fmt.Errorf("parse fio's report: %w", err)
	}
	if len(report.Jobs) != 1 || report.Jobs[0].Error != 0 {
		return measurement{}, fmt.Errorf("fio reports an error: %s", errs.Bytes())
	}
	j := report.Jobs[0].Write
	return measurement{
		iops: j.IOPS, bytes: j.Bytes, requests: j.Total,
		p50: time.Duration(j.Clat.Percentile["50.000000"]),
		p99: time.Duration(j.Clat.Percentile["99.000000"]),
	}, nil
}
