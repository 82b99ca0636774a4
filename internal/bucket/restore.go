package bucket

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// restoreRequest is the body of RestoreObject.
type restoreRequest struct {
	XMLName xml.Name       `xml:"RestoreRequest"`
	Days    int            `xml:"Days"`
	Job     *jobParameters `xml:"JobParameters,omitempty"`
}

type jobParameters struct {
	Tier string `xml:"Tier"`
}

// Restore asks for an object to be restored for a number of days; for its current version if version is "". tier is "" for the
// default, and must be for an Archive object: OSS refuses a request that names one (0016-00000714). begun reports whether the
// restore begins with this request, which OSS charges for. It is false if one is under way, or has ended.
func (c *Client) Restore(ctx context.Context, key, version string, days int, tier string) (begun bool, err error) {
	doc := restoreRequest{Days: days}
	if tier != "" {
		doc.Job = &jobParameters{tier}
	}
	body, err := xml.Marshal(doc)
	if err != nil {
		return false, err
	}
	params := map[string]any{"restore": nil}
	if version != "" {
		params["versionId"] = version
	}
	resp, err := c.do(ctx, outgoing{method: http.MethodPost, key: key, params: params, body: string(body)})
	if err == nil {
		return resp.StatusCode == http.StatusAccepted, resp.Body.Close()
	}
	var said oss.ServiceError
	if !errors.As(err, &said) {
		return false, err
	}
	switch {
	case said.Code == "RestoreAlreadyInProgress", said.Ec == lowerTier:
		return false, nil
	case said.StatusCode == http.StatusForbidden && said.RequestID != "":
		err = fmt.Errorf("%w; the permission oss:%s is needed", err, map[bool]string{false: "RestoreObject", true: "RestoreObjectVersion"}[version != ""])
	}
	return false, err
}

// lowerTier is the EC of a refusal because a faster restore is under way. Status and code of that answer are not documented.
const lowerTier = "0016-00000715"
