package weburl

import (
	"strings"
	"testing"
)

// TestCheckHeader checks which headers a caller may add, and that no error shows a value, also one in the place of a name.
func TestCheckHeader(t *testing.T) {
	for name, want := range map[string]string{
		"authorization": "Authorization", "PRIVATE-TOKEN": "Private-Token", "x_y.z": "X_y.z", "Referer": "Referer", "Cookie": "Cookie",
		"range": "", "IF-MATCH": "", "accept-encoding": "", "host": "", "user-agent": "", "Proxy-Authorization": "", "": "", "a b": "", "a:": "",
		"é": "", "secret value": "", "secret\r\nX": "",
	} {
		got, err := CheckHeader(name, "secret")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", name, err)
		}
	}
	for value, want := range map[string]bool{"Bearer secret": true, "a\tb": true, "é": true, "": false, " \t": false, "secret\r\nHost: h": false, "secret\x00": false, "secret\x7f": false} {
		if _, err := CheckHeader("Authorization", value); (err == nil) != want || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", value, err)
		}
	}
}
