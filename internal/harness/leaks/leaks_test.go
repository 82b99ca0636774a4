package leaks

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// TestOthersInBubbleAmongMany checks that what is left in a bubble is found, and nothing else, however many goroutines there are.
func TestOthersInBubbleAmongMany(t *testing.T) {
	end := make(chan struct{})
	var others sync.WaitGroup
	defer others.Wait()
	defer close(end)
	for range 3_000 {
		others.Go(func() { <-end })
	}
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			if left := OthersInBubble(); left != "" {
				t.Fatal("found without a leak:\n", left)
			}
			leak := make(chan struct{})
			go leaking(leak)
			synctest.Wait()
			if left := OthersInBubble(); !strings.Contains(left, "leaks.leaking") {
				t.Errorf("the leak is not found:\n%s", left)
			}
			close(leak)
		})
	}
}

func leaking(end chan struct{}) { <-end }
