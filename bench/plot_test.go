package main

import (
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlot draws the figures in small. Each is a small SVG document that names the clients of its row.
func TestPlot(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	const most = 64 << 10 // bytes
	dir := filepath.Join(t.TempDir(), "figures")
	if err := run(t.Context(), []string{"-plot", dir, "-quick", "-n", "1", "-dir", t.TempDir()}, t.Output(), t.Output()); err != nil {
		t.Fatal(err)
	}
	for name, clients := range map[string][]string{
		killFigure:    {ossdlClient, sdkClient, sdkV2Client},
		perKillFigure: {ossdlClient, sdkClient, sdkV2Client},
		slowFigure:    {ossdlClient, bareClient, sdkClient, sdkV2Client},
		manyFigure:    {prefixClient, bareManyClient, sdkV2SyncClient, sdkV2LoopClient},
	} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > most {
			t.Errorf("%s: %d bytes, want %d at most", name, len(data), most)
		}
		dec := xml.NewDecoder(strings.NewReader(string(data)))
		dec.Strict = true
		for err == nil {
			_, err = dec.Token()
		}
		if err != io.EOF {
			t.Errorf("%s: %v", name, err)
		}
		for _, c := range clients {
			if !strings.Contains(string(data), ">"+c) {
				t.Errorf("%s does not name %s", name, c)
			}
		}
	}
}
