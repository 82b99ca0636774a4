package span

import "testing"

// TestSpanHeader checks that the end of a Range header is inclusive.
func TestSpanHeader(t *testing.T) {
	for sp, want := range map[Span]string{
		{0, 1}: "bytes=0-0", {5, 10}: "bytes=5-9", {1 << 45, 1<<45 + 5}: "bytes=35184372088832-35184372088836",
	} {
		if got := sp.Header(); got != want {
			t.Errorf("%v: %s, want %s", sp, got, want)
		}
	}
}
