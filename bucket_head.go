package ossdl

import (
	"context"
	"net/http"
)

// head asks what the service says of an object.
func (b *bucketClient) head(ctx context.Context, key string) (facts, error) {
	resp, err := b.open(ctx, http.MethodHead, key, map[string]any{})
	if err != nil {
		return facts{}, err
	}
	resp.Body.Close()
	return readHead(resp.Headers)
}
