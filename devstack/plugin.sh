#!/bin/bash
# The devstack plugin: Glance with the replication filter, and targets to replicate to.
#
# Devstack sources this file with "stack PHASE", "unstack" or "clean". Glance starts between the
# phases post-config and extra, so that it needs no restart.

function install_glance_repl_mw {
    setup_develop "$GLANCE_REPL_MW_DIR"
    pip_install wsgidav cheroot
}

function configure_glance_repl_mw {
    install -d -m 0700 "$GLANCE_REPL_MW_DATA_DIR"
    _create_replication_accounts
    _configure_replication_pipeline
    _configure_replication_stores
    _configure_replication_user
    _configure_replication_targets
}

function _create_replication_accounts {
    get_or_create_role "$GLANCE_REPL_MW_ROLE"
    get_or_create_project "$GLANCE_REPL_MW_PROJECT" "$SERVICE_DOMAIN_NAME"
    get_or_create_user "$GLANCE_REPL_MW_USER" "$SERVICE_PASSWORD" "$SERVICE_DOMAIN_NAME"
    get_or_add_user_project_role "$GLANCE_REPL_MW_ROLE" "$GLANCE_REPL_MW_USER" \
        "$GLANCE_REPL_MW_PROJECT" "$SERVICE_DOMAIN_NAME" "$SERVICE_DOMAIN_NAME"
}

function _configure_replication_pipeline {
    iniset "$GLANCE_API_PASTE_INI" filter:replication \
        paste.filter_factory glance_repl_mw.filter:filter_factory
    # Once, directly after context, in each pipeline with Keystone.
    sed -i '/^keystone.* rootapp/{/ replication /!s/ context / context replication /}' \
        "$GLANCE_API_PASTE_INI"
}

function _configure_replication_stores {
    local backends stores
    iniset "$GLANCE_API_CONF" DEFAULT show_multiple_locations True
    iniset "$GLANCE_API_CONF" import_filtering_opts allowed_ports \
        "[80,443,$GLANCE_REPL_MW_TARGET_PORT]"
    backends=$(iniget "$GLANCE_API_CONF" DEFAULT enabled_backends)
    stores=$(iniget "$GLANCE_API_CONF" glance_store stores)
    if [[ -n "$backends" ]]; then
        if [[ ! "$backends" =~ :[[:space:]]*http([[:space:],]|$) ]]; then
            iniset "$GLANCE_API_CONF" DEFAULT enabled_backends "$backends,http:http"
        fi
    elif [[ -n "$stores" && ! "$stores" =~ (^|[[:space:],])http([[:space:],]|$) ]]; then
        iniset "$GLANCE_API_CONF" glance_store stores "$stores,http"
    fi
}

function _configure_replication_user {
    iniset "$GLANCE_API_CONF" replication auth_type password
    iniset "$GLANCE_API_CONF" replication auth_url "$KEYSTONE_SERVICE_URI"
    iniset "$GLANCE_API_CONF" replication username "$GLANCE_REPL_MW_USER"
    iniset "$GLANCE_API_CONF" replication password "$SERVICE_PASSWORD"
    iniset "$GLANCE_API_CONF" replication project_name "$GLANCE_REPL_MW_PROJECT"
    iniset "$GLANCE_API_CONF" replication user_domain_name "$SERVICE_DOMAIN_NAME"
    iniset "$GLANCE_API_CONF" replication project_domain_name "$SERVICE_DOMAIN_NAME"
    iniset "$GLANCE_API_CONF" replication region_name "$REGION_NAME"
    if [[ -n "${SSL_BUNDLE_FILE:-}" ]] && is_service_enabled tls-proxy; then
        iniset "$GLANCE_API_CONF" replication cafile "$SSL_BUNDLE_FILE"
    fi
    if [[ "$GLANCE_REPL_MW_ROLE" != admin ]]; then
        install -m 0640 \
            "$GLANCE_REPL_MW_DIR/etc/glance-repl-mw/glance-policy-single.yaml.sample" \
            "$GLANCE_CONF_DIR/replication-policy.yaml"
        sed -i "s/role:image_replicator/role:$GLANCE_REPL_MW_ROLE/g" \
            "$GLANCE_CONF_DIR/replication-policy.yaml"
        iniset "$GLANCE_API_CONF" oslo_policy policy_file replication-policy.yaml
    fi
}

function _configure_replication_targets {
    local enabled="" name
    for name in ${GLANCE_REPL_MW_TARGETS//,/ }; do
        enabled+="${enabled:+,}$name:http"
        install -d "$GLANCE_REPL_MW_DATA_DIR/targets/$name"
        iniset "$GLANCE_API_CONF" "replication:$name" url \
            "http://$HOST_IP:$GLANCE_REPL_MW_TARGET_PORT/$name/"
    done
    iniset "$GLANCE_API_CONF" replication enabled_targets "$enabled"
    iniset "$GLANCE_API_CONF" replication spool_dir "$GLANCE_REPL_MW_DATA_DIR/spool"
    iniset "$GLANCE_API_CONF" replication connection \
        "sqlite:///$GLANCE_REPL_MW_DATA_DIR/replication.sqlite"
}

function start_glance_repl_mw_target {
    run_process g-repl-target "$(command -v wsgidav) --host $HOST_IP \
--port $GLANCE_REPL_MW_TARGET_PORT --root $GLANCE_REPL_MW_DATA_DIR/targets --auth anonymous"
}

function check_glance_repl_mw {
    # What it warns of is for the reader of the log; stack.sh goes on.
    glance-repl-manage --config-file "$GLANCE_API_CONF" check || true
}

function stop_glance_repl_mw_target {
    stop_process g-repl-target
}

function clean_glance_repl_mw {
    rm -rf "${GLANCE_REPL_MW_DATA_DIR:?}"
}

if is_service_enabled g-api; then
    case "$1 ${2:-}" in
        "stack install") install_glance_repl_mw ;;
        "stack post-config")
            configure_glance_repl_mw
            start_glance_repl_mw_target
            ;;
        "stack extra") check_glance_repl_mw ;;
        "unstack "*) stop_glance_repl_mw_target ;;
        "clean "*) clean_glance_repl_mw ;;
    esac
fi
