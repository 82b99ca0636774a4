module github.com/ossdl/ossdl/bench

go 1.26

require (
	github.com/aliyun/aliyun-oss-go-sdk v3.0.2+incompatible
	github.com/ossdl/ossdl v0.0.0
)

replace github.com/ossdl/ossdl => ../
